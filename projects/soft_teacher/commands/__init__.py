"""What pip installs as commands, a module with a ``main`` for each; see ``setup.cfg``."""
