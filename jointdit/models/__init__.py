"""The joint model: the two pretrained UNets cut into stages (`experts`), and the Joint Blocks between them."""
