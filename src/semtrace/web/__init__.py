"""The live view in a browser: `semtrace serve`. Needs the extra `serve` (textual-serve and, with it, aiohttp)."""
