"""`python -m semtrace`."""

from semtrace.cli import main

raise SystemExit(main())
