"""A shop's contract, sagas and services, as their authors would write them."""
