"""The page: what can be asked for on the left, what came of it on the right."""

from __future__ import annotations

import base64
import filecmp
import html
import io
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ..cli.generate import SAMPLE
from ..diffusion.guidance import DEFAULTS as GUIDANCE_MODES
from ..errors import InputError
from ..media import Clip, exact_fps
from ..media.sound import write_wav
from ..pipeline.settings import SAMPLERS
from .clips import FILES, Studio, command_line, examples, workflow
from .report import report_tab
from .train import train_tab
from .visitors import Visitors
from .work import Step, in_steps

# One job at a time, whatever tab it is from.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "device", "trigger_mode": "multiple"}
PREVIEW_SIDE = 256
MOST_CLIPS = 16
# Of a clip: its thumbnail, video, sound, workflow, command, plot, and what is said of it.
Made = tuple[str, str, str, str, str, str | None, str]
OWN = "the model's own"
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # of the system: the page loads nothing from elsewhere
CSS = ".status progress { width: 100% } .status img { width: 100%; max-width: 24rem; border-radius: 0.5rem }"


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


def generate_tab(studio: Studio, models: Sequence[str], trusted: bool, folder: Path, visitors: Visitors) -> gr.Textbox:
    """Inputs, and what came of them. The field of the Joint Block file."""
    gallery_state = gr.State([])
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = gr.Image(label="Picture", type="filepath", value=str(SAMPLE), height=220, elem_id="picture")
            prompt = gr.Textbox(
                value="", label="Prompt", placeholder="what happens; empty: the picture suggests it", elem_id="prompt"
            )
            gr.Examples(examples(folder), [image, prompt], label="Pictures, and prompts that the bundled model knows")
            with gr.Row():
                seed = gr.Textbox(value="", label="Seed", placeholder="random", elem_id="seed")
                count = gr.Slider(1, MOST_CLIPS, 1, step=1, label="Clips, one seed each")
            with gr.Row():
                run = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Cancel", variant="stop", interactive=False, elem_id="cancel")
            with gr.Accordion("A video or a sound instead", open=False):
                video = gr.Video(label="Video that gets a sound (take the picture away)", height=180)
                audio = gr.Audio(label="Sound that the picture moves to", type="filepath")
            with gr.Accordion("Clip", open=False):
                negative = gr.Textbox(value="", label="Negative prompt", placeholder="what should not be heard")
                with gr.Row():
                    width = gr.Textbox(value="", label="Width", placeholder=OWN, elem_id="width")
                    height = gr.Textbox(value="", label="Height", placeholder=OWN, elem_id="height")
                with gr.Row():
                    frames = gr.Textbox(value="", label="Frames", placeholder=OWN)
                    fps = gr.Textbox(value="", label="Frames per second", placeholder=f"{OWN}, or 12.5, 25/2")
                fit = gr.Radio(["cover", "contain", "stretch"], value="cover", label="A picture of another shape")
            with gr.Accordion("Sampling", open=False):
                steps = gr.Textbox(value="", label="Steps", placeholder=OWN, elem_id="steps")
                sampler = gr.Radio(list(SAMPLERS), value="euler", label="Sampler")
                mode = gr.Radio([OWN, *GUIDANCE_MODES], value=OWN, label="Guidance")
                video_scale = gr.Slider(0, 10, 1, label="Video scale: obey the picture; 1 is neutral", visible=False)
                audio_scale = gr.Slider(0, 10, 1, label="Audio scale: obey the text; 1 is neutral", visible=False)
                joint_scale = gr.Slider(0, 10, 1, label="Joint scale: agree; 1 is neutral", visible=False)
                sync = gr.Slider(0, 2, 0, step=0.1, label="Sync: pull the sound to when the picture moves; 0 is off")
                fresh = gr.Slider(0, 1, 0, step=0.05, label="Fresh noise: share that each step replaces")
            with gr.Accordion("Model", open=False):
                model = gr.Dropdown(list(models), value=models[0], label="Model", allow_custom_value=trusted)
                experts = [
                    gr.Textbox(value="", label=label, placeholder=hint, visible=trusted, elem_id=name)
                    for name, label, hint in (
                        ("video-expert", "Video expert, instead of a model", "svd.safetensors or a folder"),
                        ("audio-expert", "Audio expert", "a folder of AudioLDM2"),
                        ("joint", "Joint Block file", "joint_blocks.safetensors"),
                    )
                ]
                memory = gr.Radio(["plain", "low", "lowest"], value="plain", label="Save memory, for more time")
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(elem_classes="status", elem_id="status")
            player = gr.Video(label="Clip", autoplay=True, loop=True, interactive=False, height=420, elem_id="clip")
            with gr.Row():
                sound = gr.File(label="Sound, .wav", height=90)
                graph = gr.File(label="Workflow for ComfyUI's API, .json", height=90)
            command = gr.Code(
                label="The command that makes it again",
                language="shell",
                wrap_lines=True,
                lines=2,
                max_lines=4,
                elem_id="command",
            )
            plot = gr.Image(label="Motion and loudness", interactive=False)
            gallery = gr.Gallery(
                label="Clips of this session: a click shows one",
                columns=4,
                allow_preview=False,
                elem_id="gallery",
            )
    shown = (video_scale, audio_scale, joint_scale)
    mode.change(_scales, mode, shown, show_progress="hidden", api_visibility="private")

    def generate(
        request: gr.Request,
        image: str | None = None,
        video: str | None = None,
        audio: str | None = None,
        prompt: str = "",
        negative_prompt: str = "",
        seed: str = "",
        count: float = 1,
        width: str = "",
        height: str = "",
        frames: str = "",
        fps: str = "",
        fit: str = "cover",
        steps: str = "",
        sampler: str = "euler",
        guidance: str = OWN,
        video_scale: float = 1,
        audio_scale: float = 1,
        joint_scale: float = 1,
        sync: float = 0,
        fresh_noise: float = 0,
        model: str = models[0],
        video_expert: str = "",
        audio_expert: str = "",
        joint: str = "",
        memory: str = "plain",
        clips: Sequence[Made] = (),
    ) -> Iterator[dict[Any, Any]]:
        """Makes clips of a picture, a video or a sound, one for each seed."""
        if not trusted and (video_expert or audio_expert or joint or model not in models):
            raise gr.Error("this page takes models from its list alone", print_exception=False)
        scales = {"video_scale": video_scale, "audio_scale": audio_scale, "joint_scale": joint_scale}
        options: dict[str, Any] = {
            "image": image,
            "video": video,
            "audio": audio,
            "model": None if video_expert or audio_expert else model,
            "video_expert": _text(video_expert),
            "audio_expert": _text(audio_expert),
            "joint": _text(joint),
            "prompt": _text(prompt),
            "negative_prompt": _text(negative_prompt),
            "frames": _whole("Frames", frames),
            "fps": _text(fps),
            "size": _size(width, height),
            "fit": None if fit == "cover" else fit,
            "steps": _whole("Steps", steps),
            "sampler": None if sampler == "euler" else sampler,
            "guidance": None if guidance == OWN else guidance,
            **{name: value for name, value in scales.items() if name in _scales_of(guidance)},
            "sync": sync or None,
            "fresh_noise": fresh_noise or None,
            "memory": None if memory == "plain" else memory,
        }
        first = _whole("Seed", seed, lowest=0)
        first = secrets.randbelow(2**32) if first is None else first
        yield {run: gr.update(interactive=False), stop: gr.update(interactive=True), status: _bar("waits", 0, 1)}
        try:
            if options["fps"]:
                exact_fps(options["fps"])
            for turn in range(int(count)):
                options["seed"] = first + turn
                note = f"clip {turn + 1} of {int(count)}: " if count > 1 else ""
                with closing(in_steps(lambda report: studio.make(options, report))) as work:
                    for each in work:
                        if not visitors.wait(request):
                            return
                        if isinstance(each, Step):
                            yield {status: _bar(note + each.stage, each.done, each.total, each.frames)}
                            continue
                        clips = [_write(each.result, options, folder), *clips]
                        yield {
                            **dict(zip((player, sound, graph, command, plot, status), clips[0][1:], strict=True)),
                            gallery: [thumbnail for thumbnail, *_ in clips],
                            gallery_state: clips,
                        }
        except InputError as error:
            yield {status: f"<b>{html.escape(str(error))}</b>", **dict(zip((run, stop), _ready(), strict=True))}
            raise gr.Error(str(error), print_exception=False) from error

    asked = [image, video, audio, prompt, negative, seed, count, width, height, frames, fps, fit, steps, sampler, mode]
    asked += [*shown, sync, fresh, model, *experts, memory, gallery_state]
    results = [run, stop, status, player, sound, graph, command, plot, gallery, gallery_state]
    run.click(visitors.come, queue=False, api_visibility="private")
    event = run.click(generate, asked, results, api_name="generate", show_progress="hidden", **DEVICE_QUEUE)
    event.then(_ready, None, [run, stop], queue=False, show_progress="hidden", api_visibility="private")
    gallery.select(
        _again, gallery_state, [player, sound, graph, command, plot, status], queue=False, api_visibility="private"
    )
    stop.click(
        lambda: (*_ready(), "Cancelled."),
        None,
        [run, stop, status],
        cancels=[event],
        queue=False,
        api_visibility="private",
    )
    return experts[-1]


def _ready() -> tuple[Any, Any]:
    """The buttons Generate and Cancel where nothing is being made."""
    return gr.update(interactive=True), gr.update(interactive=False)


def _again(clips: list[Made], chosen: gr.SelectData) -> tuple[Any, ...]:
    """All of a clip but its thumbnail."""
    return tuple(clips[chosen.index][1:])


def _text(value: str | None) -> str | None:
    return (value or "").strip() or None


def _whole(name: str, text: str | None, lowest: int = 1) -> int | None:
    """The number in a field; None where it is empty."""
    if (value := _text(text)) is None:
        return None
    if not value.isdecimal() or not lowest <= int(value) < 2**64:
        raise gr.Error(f"{name} is {value[:40]!r}; give a whole number from {lowest} on", print_exception=False)
    return int(value)


def _size(width: str | None, height: str | None) -> tuple[int, int] | None:
    pair = _whole("Width", width), _whole("Height", height)
    if None in pair and pair != (None, None):
        raise gr.Error("width and height go together; give both, or none", print_exception=False)
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def _scales_of(mode: str) -> set[str]:
    """The sliders that a mode of guidance has."""
    own = GUIDANCE_MODES.get(mode, {})
    return {name for name in ("video_scale", "audio_scale", "joint_scale") if name in own} | (
        {"joint_scale"} if "video_joint_scale" in own else set()
    )


def _scales(mode: str) -> tuple[Any, ...]:
    """The sliders as a mode has them, at its values."""
    own = GUIDANCE_MODES.get(mode, {})
    there = _scales_of(mode)
    values = (own.get("video_scale", 1), own.get("audio_scale", 1), own.get("video_joint_scale", 1))
    return tuple(
        gr.update(visible=name in there, value=value)
        for name, value in zip(("video_scale", "audio_scale", "joint_scale"), values, strict=True)
    )


def _bar(text: str, done: int, total: int, frames: np.ndarray | None = None) -> str:
    """A line, a bar, and the moving picture of what the clip looks like by now."""
    line = f"{html.escape(text)} {done}/{total}<progress value={done} max={max(total, 1)}></progress>"
    if frames is None:
        return line
    picture = base64.b64encode(animation(frames)).decode()
    return f'{line}<img alt="the clip so far" src="data:image/webp;base64,{picture}">'


def animation(frames: np.ndarray) -> bytes:
    """uint8 [F, h, w, 3] as a small animated WebP."""
    scale = PREVIEW_SIDE / max(frames.shape[1:3])
    size = round(frames.shape[2] * scale), round(frames.shape[1] * scale)
    first, *others = (Image.fromarray(each).resize(size, Image.Resampling.BICUBIC) for each in frames)
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=others, duration=100, loop=0, quality=60, method=0)
    return file.getvalue()


def _write(clip: Clip, options: dict[str, Any], folder: Path) -> Made:
    """Writes the files of a clip."""
    names = {name: Path(options[name]).name for name in FILES if options.get(name)}
    if options["image"] and filecmp.cmp(options["image"], SAMPLE, shallow=False):
        names = {}  # the command takes it where no picture is named
    stem = f"{Path(options['image'] or options['video']).stem}_seed{options['seed']}"
    path = Path(tempfile.mkdtemp(dir=folder)) / stem
    player, sound, graph, small, plot = (
        path.with_name(stem + ending) for ending in (".mp4", ".wav", ".json", ".webp", ".png")
    )
    clip.save(player)
    write_wav(sound, clip.audio, clip.sample_rate)
    graph.write_text(workflow(options, names), encoding="utf-8")
    small.write_bytes(animation(clip.frames))
    figure, scores = _sync(clip)
    if figure is not None:
        Image.fromarray(figure).save(plot)
    frames, height, width, _ = clip.frames.shape
    said = f"{frames} frames, {float(clip.fps):.6g} fps, {width}x{height}, seed {options['seed']}{scores}"
    command = command_line(options, names, player.name)
    return str(small), str(player), str(sound), str(graph), command, str(plot) if figure is not None else None, said


def _sync(clip: Clip) -> tuple[np.ndarray | None, str]:
    """The plot of motion and loudness and its scores, where the extra `evaluate` is installed."""
    if not all(find_spec(package) for package in ("scipy", "matplotlib", "skimage", "sklearn")):
        return None, ""
    from ..evaluate import draw_sync
    from ..evaluate.clip import score_clip

    return draw_sync(clip), "; " + "; ".join(score_clip(clip).lines())
