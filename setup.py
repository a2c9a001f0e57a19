"""`data/` and `notebooks/` stand at the top of the repository and travel in the wheel as parts of the package."""

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
