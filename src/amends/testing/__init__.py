"""Tools for testing sagas, services, and adapters that others write."""
