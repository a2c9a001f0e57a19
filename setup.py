"""What `pyproject.toml` cannot say: `data/` and `notebooks/`, at the top of the repository, are parts of the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["workbench*"]), "workbench.data", "workbench.notebooks"],
    package_dir={"workbench.data": "data", "workbench.notebooks": "notebooks"},
    package_data={
        "": ["*.pyi"],
        "workbench.view": ["static/**/*", "templates/**/*"],
        "workbench.data": ["**/*"],
        "workbench.notebooks": ["*.ipynb"],
    },
)
