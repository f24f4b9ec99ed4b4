from argparse import Namespace

args = Namespace(
    preview_size=512,
    use_split_cross_attention=False,
    use_quad_cross_attention=False,
    fp32_vae=False,
    fp16_vae=False,
    bf16_vae=False,
    fp32_text_enc=False,
    fp16_text_enc=False,
    bf16_text_enc=False,
    fp8_e4m3fn_text_enc=False,
    fp8_e5m2_text_enc=False,
)
