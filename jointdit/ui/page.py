"""The page: what can be asked for on the left, what came of it on the right."""

from __future__ import annotations

import inspect
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..cli.complaints import CORRECTABLE, complaint
from ..cli.generate import SAMPLE
from ..cli.jobs import read_seeds
from ..diffusion.modes import DEFAULTS as GUIDANCE_MODES
from ..errors import InputError, in_one_line
from .clips import FILES, Studio, check, examples
from .fields import BY_NAME, SHOWN, Form, label, left_out, read_texts, sentence
from .report import report_tab
from .results import Made, bar, moving, write
from .train import train_tab
from .visitors import Visitors
from .work import Step, in_steps

# One job at a time, whatever tab it is from.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "device", "trigger_mode": "multiple"}
MOST_CLIPS = 16
SCALES = "video-scale video-scale-start audio-scale video-joint-scale audio-joint-scale video-prompt-scale".split()
PATHS = ("video-expert", "audio-expert", "joint", "adapters", "video-lora")  # of this machine
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # of the system: the page loads nothing from elsewhere
PICTURE_BUTTONS: Any = ["download", "fullscreen"]  # and none that sends it to others
NARROW = 768  # pixels
CSS = f"""
.status progress {{ width: 100% }}
.status img {{ width: 100%; max-width: 24rem; border-radius: 0.5rem }}
#command .cm-scroller {{ min-height: 3rem !important }}
:is(#gallery, #samples) .grid-wrap {{ min-height: 0; overflow-y: auto }}
#gallery .grid-container {{ grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)) !important }}
:is(#sound, #graph, #command, #plot, #gallery, #loss, #samples, #report):has(.empty) {{ display: none }}
@media (max-width: {NARROW}px) {{ .gradio-container {{ padding: 0.5rem }} }}
"""
# Where the columns are one below the other, what is being made is far from the button.
SHOW_STATUS = f"""() => {{
    const status = document.querySelector("#status");
    if (window.innerWidth < {NARROW}) status.scrollIntoView({{ behavior: "smooth" }});
}}"""


def build_page(studio: Studio, models: Sequence[str], trusted: bool) -> gr.Blocks:
    """models: what the model's list offers.    trusted: whether who sees the page may name folders of this machine."""
    folder = Path(tempfile.mkdtemp(prefix="jointdit-ui-"))
    visitors = Visitors()
    with gr.Blocks(title="JointDiT", analytics_enabled=False) as page:
        gr.Markdown("# JointDiT\nOne picture becomes a short video with its own sound.")
        with gr.Tab("Generate"):
            joint = generate_tab(studio, models, trusted, folder, visitors)
        with gr.Tab("Sync report"):
            report_tab()
        if trusted:
            with gr.Tab("Train"):
                train_tab(models, visitors, folder, joint)
        page.unload(visitors.leave)
    return page


def launch_options(host: str, port: int, upload_megabytes: int) -> dict[str, Any]:
    """Of `gr.Blocks.launch`."""
    return {
        "server_name": host,
        "server_port": port,
        "share": False,
        "quiet": True,
        "show_error": True,
        "max_file_size": f"{upload_megabytes}mb",
        "theme": gr.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace")),
        "css": CSS,
        "footer_links": ["api"],
    }


def generate_tab(
    studio: Studio, models: Sequence[str], trusted: bool, folder: Path, visitors: Visitors
) -> gr.components.Component:
    """Inputs, and what came of them. The field of the Joint Block file."""
    gallery_state = gr.State([])
    form = Form()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = _picture()
            form.add("prompt", info=None, placeholder="what happens and what is heard; empty: the picture suggests it")
            with gr.Row():
                seed = gr.Textbox(
                    label="Seed",
                    info="One, or several as 1,2,3",
                    placeholder=left_out(BY_NAME["seed"]),
                    min_width=140,
                    elem_id="seed",
                )
                form.take("seed", seed, _read_seeds)
                count = gr.Slider(
                    1, MOST_CLIPS, 1, step=1, label="Clips", info="With this seed and those that follow", min_width=140
                )
            with gr.Row():
                run = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Cancel", variant="stop", interactive=False, elem_id="cancel")
            with gr.Accordion("A video or a sound that is given", open=False):
                video = gr.Video(label="Video that gets a sound, instead of a picture", height=290, elem_id="video")
                form.rows("retake", "retake-only")
                audio = gr.Audio(label="Sound that the picture moves to", type="filepath", elem_id="audio")
            with gr.Accordion("Clip", open=False):
                form.add("negative-prompt")
                form.rows("size", "fit", "frames", "fps", "window", "overlap")
                form.rows("motion-bucket", "noise-augmentation", "gain", "loudness")
            with gr.Accordion("Sampling", open=False):
                form.rows("steps", "sampler", wide=1)
                (mode,) = form.add("guidance")
                with gr.Row():
                    scales = form.add(*SCALES, min_width=140, visible=False)
                form.rows("guidance-interval", "guidance-rescale")
                form.take("sync", _sync_strength())
                form.rows("sync-interval", "audio-substeps", "fresh-noise", "video-temperature")
                form.rows("reuse", "reuse-layers", "audio-grid", "isolated")
            with gr.Accordion("Model", open=False):
                form.take("model", _model(models, trusted))
                form.add(*PATHS, "lora-strength", visible=trusted)
                joint = form.fields["joint"].part
                form.rows("expert-frames", "audio-heads")
                form.add("dtype")
            with gr.Accordion("Memory and speed", open=False):
                form.add("memory", "offload")
                form.rows("max-batch", "query-chunk", "decode-chunk", "video-pool", "feed-forward-chunks", "float8")
                form.add("compile")
                form.rows("channels-last", "audio-stream")
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(elem_classes="status", elem_id="status")
            player = gr.Video(
                label="Clip",
                autoplay=True,
                loop=True,
                interactive=False,
                height=420,
                elem_id="clip",
                buttons=["download"],
            )
            with gr.Row():
                sound = gr.File(label="Sound, .wav", height=90, min_width=240, elem_id="sound")
                graph = gr.File(label="Workflow for ComfyUI's API", height=90, min_width=240, elem_id="graph")
            command = gr.Code(
                label="The command that makes it again",
                language="shell",
                wrap_lines=True,
                lines=2,
                max_lines=6,
                elem_id="command",
            )
            plot = gr.Image(label="Motion and loudness", interactive=False, elem_id="plot", buttons=PICTURE_BUTTONS)
            gallery = gr.Gallery(
                label="Clips of this session: a click shows one",
                height="auto",
                allow_preview=False,
                elem_id="gallery",
                buttons=[],
            )
            gr.Examples(
                examples(folder),
                [image, form.fields["prompt"].part],
                label="Pictures, and prompts that the bundled model knows",
            )
    assert isinstance(mode, gr.Radio)
    mode.change(_scales, mode, scales, show_progress="hidden", api_visibility="private")
    video.upload(lambda: None, None, image, queue=False, api_visibility="private")
    image.upload(lambda: None, None, video, queue=False, api_visibility="private")
    results = (player, sound, graph, command, plot, status)

    def generate(
        request: gr.Request, image: str | None, video: str | None, audio: str | None, count: float, *values: Any
    ) -> Iterator[dict[Any, Any]]:
        """Makes clips of a picture, a video or a sound, one for each seed."""
        *given, clips = values
        yield {status: bar("starts", 0, 1)}
        try:
            texts = _asked(form, given, dict(zip(FILES, (image, video, audio), strict=True)))
            if not trusted and (texts.keys() & set(PATHS) or texts.get("model", models[0]) not in models):
                raise InputError("this page takes models from its list alone")
            seeds = _seeds(texts.pop("seed", None), int(count))
            for turn, seed in enumerate(seeds, 1):
                asked = {**texts, "seed": str(seed)}
                options = read_texts(asked)
                check(options)
                note = f"clip {turn} of {len(seeds)}: " if len(seeds) > 1 else ""
                picture = ""  # stays while later steps have none
                with closing(in_steps(lambda report, options=options: studio.make(options, report))) as work:
                    for each in work:
                        if not visitors.wait(request):
                            return
                        if isinstance(each, Step):
                            picture = picture if each.frames is None else moving(each.frames)
                            yield {status: bar(note + each.stage, each.done, each.total, picture)}
                            continue
                        clips = [write(*each.result, asked, folder), *clips]
                        yield {
                            **dict(zip(results, clips[0].shown, strict=True)),
                            gallery: [made.thumbnail for made in clips],
                            gallery_state: clips,
                        }
        except CORRECTABLE as error:
            if (told := complaint(error)) is None:
                raise
            told = in_one_line(_as_named(told, (image, video, audio)))
            yield {status: f"<b>{escape(told)}</b>", **dict(zip((run, stop), _ready(), strict=True))}
            raise gr.Error(escape(told, quote=False), print_exception=False) from error

    generate.__signature__ = _signature(form)  # the names of the endpoint's arguments
    asked = [image, video, audio, count, *form.parts, gallery_state]
    aside: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    click = run.click(visitors.come, js=SHOW_STATUS, **aside).then(_at_work, None, [run, stop, status], **aside)
    event = click.then(  # not beside it: the buttons of a clip that is refused at once would stay as those of work
        generate,
        asked,
        [*results, gallery, gallery_state, run, stop],
        api_name="generate",
        show_progress="hidden",
        **DEVICE_QUEUE,
    )
    event.then(_ready, None, [run, stop], **aside)
    gallery.select(_again, gallery_state, list(results), queue=False, api_visibility="private")
    stop.click(
        lambda: (*_ready(), "Cancelled."),
        None,
        [run, stop, status],
        cancels=[event],
        queue=False,
        api_visibility="private",
    )
    return joint


def _picture() -> gr.Image:
    """The file itself goes on: Gradio would code some anew, and has no line of its own for those it cannot open."""
    picture = gr.Image(
        label="Picture",
        type="filepath",
        value=str(SAMPLE),
        height=220,
        elem_id="picture",
        buttons=PICTURE_BUTTONS,
    )
    picture.preprocess = lambda payload: None if payload is None else payload.path
    return picture


def _sync_strength() -> gr.Slider:
    option = BY_NAME["sync"]
    read: Any = option.read
    return gr.Slider(
        read.lowest, read.highest, 0, step=0.1, label=label(option), info=sentence(option.help), elem_id="sync"
    )


def _model(models: Sequence[str], trusted: bool) -> gr.Dropdown:
    hint = "The one that is built in, or a model folder" if trusted else "One of this list"
    return gr.Dropdown(list(models), value=models[0], label="Model", info=hint, allow_custom_value=trusted)


def _signature(form: Form) -> inspect.Signature:
    """What the endpoint takes, by name, with the values that the page opens with."""
    names: dict[str, Any] = {**dict.fromkeys(FILES), "count": 1, **dict(form.defaults()), "clips": ()}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [inspect.Parameter(name, kind, default=value) for name, value in names.items()]
    return inspect.Signature([inspect.Parameter("request", kind), *given])


def _asked(form: Form, values: Sequence[object], files: dict[str, str | None]) -> dict[str, str]:
    """What was asked for, as texts by option; a model only where no experts are named."""
    texts = {name: path for name, path in files.items() if path} | form.texts(values)
    if texts.keys() & {"video-expert", "audio-expert"}:
        texts.pop("model", None)
    return texts


def _seeds(text: str | None, count: int) -> Sequence[int]:
    """The seed of each clip: as they are named, or one, or a random one, and those that follow it."""
    named: Sequence[int] = [secrets.randbelow(2**32)] if text is None else _read_seeds(text)
    first = named[0]
    if len(named) > 1 and count > 1:
        raise InputError(f"Seed {in_one_line(text, SHOWN)}: names several; set Clips to 1, or name the first alone")
    return named if len(named) > 1 else range(first, first + count)


def _read_seeds(text: str) -> tuple[int, ...]:
    seeds = read_seeds(text)
    if isinstance(seeds, str):
        raise ValueError("must be a whole number from 0 on, or several as 1,2,3; Clips says how many")
    if len(seeds) > MOST_CLIPS:
        raise ValueError(f"must be at most {MOST_CLIPS} seeds")
    return seeds


def _as_named(told: str, paths: Sequence[str | None]) -> str:
    """With the names of files that the user knows, in place of where the page keeps them."""
    for path in filter(None, paths):
        told = told.replace(path, Path(path).name)
    return told


def _ready() -> tuple[Any, Any]:
    """The buttons Generate and Cancel where nothing is being made."""
    return gr.update(interactive=True), gr.update(interactive=False)


def _at_work() -> tuple[Any, Any, str]:
    """The same buttons, and what is seen until the device is free."""
    return gr.update(interactive=False), gr.update(interactive=True), bar("waits for its turn", 0, 1)


def _again(clips: list[Made], chosen: gr.SelectData) -> tuple[str | None, ...]:
    return Made(*clips[chosen.index]).shown


def _scales(mode: str) -> tuple[Any, ...]:
    """The scales, those that a mode has to be seen, and empty: as the model has them."""
    there = GUIDANCE_MODES.get(mode, {})
    return tuple(gr.update(visible=name.replace("-", "_") in there, value="") for name in SCALES)
