"""What authors write: operations, steps, sagas, and the graph and checks made of them."""
