"""Can I trust this learned image reconstruction? The package behind the book.

One room, one concept: `operators` know geometry, `networks` know tensors, `solvers` are the stable
side, `attacks` see a callable, `figures` see arrays and records. Rooms are imported where they are
used, so that `import instab_utils` is cheap and works without the book's dependencies.
"""

__version__ = "0.1.0"
