"""`python -m workbench`."""

from workbench.cli.app import main

raise SystemExit(main())
