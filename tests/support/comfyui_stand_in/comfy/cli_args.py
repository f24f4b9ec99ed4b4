from argparse import Namespace

args = Namespace(use_split_cross_attention=False, use_quad_cross_attention=False)
