"""How fast policy decides, and how soon a change of it holds: `./run bench policy`."""
