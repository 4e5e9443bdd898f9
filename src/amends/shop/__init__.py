"""The shop: the example that is run, broken on purpose and audited. Three services with real data, two sagas over
them.
"""
