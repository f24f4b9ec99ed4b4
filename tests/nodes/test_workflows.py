"""The shipped workflows: both formats agree, every link and every widget fits the nodes, and they can be read."""

from __future__ import annotations

import json
import re

import blueprints
import pytest
from comfy_pack import ROOT, load_pack, nodes
from PIL import Image

from jointdit import InputError
from jointdit.checkpoints.published import MODELS
from jointdit.comfyui.page import NOTES
from jointdit.comfyui.workflow import api_format, read_workflow, set_file, set_input

load_pack()
NODES = nodes()
FOLDER = ROOT / "workflows"
PAGES = sorted(FOLDER.glob("*.json"))
# Inputs and outputs of ComfyUI's own nodes that the workflows use; a real server checks them again.
STOCK = {
    "LoadImage": ({"image": "COMBO", "upload": "IMAGEUPLOAD"}, ["IMAGE", "MASK"]),
    "LoadVideo": ({"file": "COMBO", "upload": "IMAGEUPLOAD"}, ["VIDEO"]),
    "LoadAudio": ({"audio": "COMBO", "audioUI": "AUDIO_UI", "upload": "AUDIOUPLOAD"}, ["AUDIO"]),
    "Video Slice": (
        {"video": "VIDEO", "start_time": "FLOAT", "duration": "FLOAT", "strict_duration": "BOOLEAN"},
        ["VIDEO"],
    ),
    "GetVideoComponents": ({"video": "VIDEO"}, ["IMAGE", "AUDIO", "FLOAT", "INT", "COMBO"]),
    "PreviewAny": ({"source": "*"}, ["STRING"]),
    "SaveImage": ({"images": "IMAGE", "filename_prefix": "STRING"}, ["IMAGE"]),
    "SaveVideo": (
        {
            "video": "VIDEO",
            "filename_prefix": "STRING",
            "format": "COMFY_DYNAMICCOMBO_V3",
            "format.codec": "COMFY_DYNAMICCOMBO_V3",
            "codec": "COMFY_DYNAMICCOMBO_V3",  # what the versions before nested ones read
        },
        ["VIDEO"],
    ),
    "ImageFromBatch": ({"image": "IMAGE", "batch_index": "INT", "length": "INT"}, ["IMAGE"]),
    "RebatchImages": ({"images": "IMAGE", "batch_size": "INT"}, ["IMAGE"]),
    "BatchImagesNode": ({"images.image*": "IMAGE"}, ["IMAGE"]),
    "ImageBlend": (
        {"image1": "IMAGE", "image2": "IMAGE", "blend_factor": "FLOAT", "blend_mode": "COMBO"},
        ["IMAGE"],
    ),
    "ImageScaleBy": ({"image": "IMAGE", "upscale_method": "COMBO", "scale_by": "FLOAT"}, ["IMAGE"]),
    "ComfyMathExpression": ({"values.*": "FLOAT,INT,BOOLEAN", "expression": "STRING"}, ["FLOAT", "INT", "BOOLEAN"]),
    "PrimitiveInt": ({"value": "INT"}, ["INT"]),
    "GetImageSize": ({"image": "IMAGE"}, ["INT", "INT", "INT"]),
    "FrameInterpolationModelLoader": ({"model_name": "COMBO"}, ["INTERP_MODEL"]),
    "FrameInterpolate": ({"interp_model": "INTERP_MODEL", "images": "IMAGE", "multiplier": "INT"}, ["IMAGE"]),
    "UpscaleModelLoader": ({"model_name": "COMBO"}, ["UPSCALE_MODEL"]),
    "ImageUpscaleWithModel": ({"upscale_model": "UPSCALE_MODEL", "image": "IMAGE"}, ["IMAGE"]),
}
GROWN = re.compile(r"(?<=^images\.image)\d+$|(?<=^values\.)[a-z]$")  # of inputs that grow
FOLDERS = {
    "JointDiTLoadExperts": "checkpoints",
    "FrameInterpolationModelLoader": "frame_interpolation",
    "UpscaleModelLoader": "upscale_models",
}
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
EVERY = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def schema_inputs(kind, node):
    """Inputs by name, those of the chosen option of a dynamic combo too, in the page's order."""
    sockets, widgets = {}, {}
    for each in NODES[kind].define_schema().inputs:
        plain = each.io_type in WIDGETS or each.io_type.startswith("COMFY_DYNAMIC")
        (widgets if plain else sockets)[each.id] = each
        if each.io_type == "COMFY_DYNAMICCOMBO_V3":
            chosen = node["widgets_values"][0]
            (option,) = (option for option in each.options if option.key == chosen)
            widgets.update({f"{each.id}.{inner.id}": inner for inner in option.inputs})
    return {**sockets, **widgets}


def test_there_are_workflows_and_each_has_both_formats_and_a_thumbnail():
    names = {path.stem for path in PAGES}
    assert names == {
        "image_to_sounding_video",
        "prompt_with_and_without_jointcfg",
        "real_experts",
        "sound_a_video",
        "sound_a_long_video",
        "extend_a_clip",
        "retake_a_part",
        "animate_to_a_sound",
        "train_on_a_folder",
        "sync_report",
        "finish_a_clip",
        "finish_a_clip_with_models",
    }
    assert {path.stem for path in (FOLDER / "api").glob("*.json")} == names
    assert {path.stem for path in FOLDER.glob("*.jpg")} == names
    for path in FOLDER.glob("*.jpg"):
        with Image.open(path) as picture:
            assert picture.size == (512, 512)


@EVERY
def test_api_format_is_derived_from_the_page(path):
    api = json.loads((FOLDER / "api" / path.name).read_text())
    command = f"jointdit run-workflow workflows/{path.name} --save-api workflows/api/{path.name}"
    assert api == read_workflow(path), f"write it again: {command}"
    assert read_workflow(FOLDER / "api" / path.name) == api


def test_the_blueprint_is_what_the_workflow_is():
    written = blueprints.PATH.read_text(encoding="utf-8")
    assert written == blueprints.encoded(), "run python tests/support/blueprints.py"
    (node,) = json.loads(written)["nodes"]
    assert [each["name"] for each in node["inputs"]] == [name for _, name in blueprints.INPUTS]
    whole = {each["class_type"]: each for each in read_workflow(FOLDER / "image_to_sounding_video.json").values()}
    alone = read_workflow(blueprints.PATH)
    assert {each["class_type"] for each in alone.values()} == whole.keys() - {"LoadImage", "SaveVideo"}
    for each in alone.values():
        values = {name: value for name, value in whole[each["class_type"]]["inputs"].items() if name != "image"}
        links = {name for name, value in values.items() if isinstance(value, list)}
        assert each["inputs"].keys() == values.keys()
        assert all(each["inputs"][name] == value for name, value in values.items() if name not in links)
        assert all(each["inputs"][name][0] in alone for name in links)


@EVERY
def test_nodes_of_the_page_have_the_inputs_and_outputs_of_their_schemas(path):
    for node in json.loads(path.read_text())["nodes"]:
        kind = node["type"]
        if kind in NOTES:
            continue
        if kind in STOCK:
            inputs, outputs = STOCK[kind]
        else:
            schema = NODES[kind].define_schema()
            inputs = {name: each.io_type for name, each in schema_inputs(kind, node).items()}
            outputs = [each.io_type for each in schema.outputs]
        shown = {GROWN.sub("*", each["name"]): each["type"] for each in node["inputs"]}
        assert shown == inputs and list(shown) == list(inputs)
        assert [each["type"] for each in node["outputs"]] == outputs


@EVERY
def test_a_source_is_named_only_as_a_repository(path):
    """ComfyUI-Manager looks up `aux_id` as owner/repository on GitHub."""
    for node in json.loads(path.read_text())["nodes"]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", node.get("properties", {}).get("aux_id", "none/given"))


@EVERY
def test_a_model_that_the_page_offers_is_one_that_its_node_has_chosen_at_its_address(path):
    for node in json.loads(path.read_text())["nodes"]:
        models = node["properties"].get("models", [])
        assert not models or any(each["name"] in node["widgets_values"] for each in models)
        for each in models:
            assert re.fullmatch(r"https://huggingface\.co/[\w/.-]+/resolve/main/[\w/.-]+", each["url"])
            assert each["url"].endswith(f"/{each['name']}") and each["name"].endswith(".safetensors")
            assert each["directory"] == FOLDERS[node["type"]]


def test_single_files_of_the_experts_are_offered_from_where_fetch_models_takes_them():
    offered = [
        each["url"]
        for node in json.loads((FOLDER / "real_experts.json").read_text())["nodes"]
        for each in node["properties"].get("models", [])
    ]
    assert sorted(offered) == sorted(
        f"https://huggingface.co/{model.repository}/resolve/main/{model.single_file}"
        for model in MODELS.values()
        if model.single_file
    )


def test_the_note_of_the_real_experts_has_sizes_and_licences_as_the_documents_have_them():
    page = json.loads((FOLDER / "real_experts.json").read_text())
    (note,) = (node["widgets_values"][0] for node in page["nodes"] if node["type"] in NOTES)
    table = (ROOT / "docs" / "real-experts.md").read_text()
    for name, size, licence in (
        ("svd_xt.safetensors", "9.56 GB", "Stability AI Community"),
        ("half precision", "4.5 GB", "the same"),
        ("AudioLDM2", "4.5 GB", "CC BY-NC-SA 4.0"),
    ):
        for text in (note, table):
            rows = [line for line in text.splitlines() if line.startswith("|") and name.lower() in line.lower()]
            assert any(size in row and licence in row for row in rows), (name, text)
    assert all(f"`{model.single_file}`" in note for model in MODELS.values() if model.single_file)


def test_the_first_workflow_is_an_app_of_picture_prompt_and_seed_whose_output_is_the_clip():
    page = json.loads((FOLDER / "image_to_sounding_video.json").read_text())
    by_id = {str(node["id"]): node for node in page["nodes"]}
    app = page["extra"]["linearData"]
    inputs = [(by_id[node]["type"], name) for node, name in app["inputs"]]
    assert inputs == [("LoadImage", "image"), ("JointDiTCondition", "prompt"), ("JointDiTSample", "seed")]
    for node, name in app["inputs"]:
        assert any(each["name"] == name and "widget" in each for each in by_id[node]["inputs"])
    assert [by_id[node]["type"] for node in app["outputs"]] == ["SaveVideo"]
    assert page["extra"]["linearMode"] is False  # a template opens as what it is made of


@EVERY
def test_links_join_sockets_of_one_type(path):
    page = json.loads(path.read_text())
    by_id = {node["id"]: node for node in page["nodes"]}
    for link, source, out, target, into, kind in page["links"]:
        output, given = by_id[source]["outputs"][out], by_id[target]["inputs"][into]
        assert output["type"] == kind and (kind in given["type"].split(",") or given["type"] == "*")
        assert link in output["links"] and given["link"] == link
    linked = [each["link"] for node in page["nodes"] for each in node["inputs"] if each["link"] is not None]
    assert sorted(linked) == sorted(link[0] for link in page["links"])


@EVERY
def test_every_value_is_one_that_the_node_takes(path):
    page = json.loads(path.read_text())
    graph = api_format(page)
    for node in page["nodes"]:
        if node["type"] not in NODES:
            continue
        inputs, values = schema_inputs(node["type"], node), graph[str(node["id"])]["inputs"]
        required = {name for name, each in inputs.items() if not each.optional}
        assert required <= values.keys() <= inputs.keys()
        for name, value in values.items():
            each = inputs[name]
            if isinstance(value, list):
                continue
            if each.io_type in ("INT", "FLOAT"):
                assert each.min <= value <= each.max
                assert type(value) is (int if each.io_type == "INT" else float)
            elif each.io_type == "COMBO" and "expert" not in name and name != "videos":
                assert value in each.options


@EVERY
def test_the_page_is_read_from_left_to_right_in_groups_without_overlap(path):
    page = json.loads(path.read_text())
    assert any(node["type"] in NOTES for node in page["nodes"])
    nodes = [node for node in page["nodes"] if node["type"] not in NOTES]
    by_id = {node["id"]: node for node in nodes}
    for _, source, _, target, *_ in page["links"]:
        left, right = by_id[source], by_id[target]
        assert left["pos"][0] <= right["pos"][0]
    for node in nodes:
        homes = [group for group in page["groups"] if inside(node, group["bounding"])]
        assert len(homes) == 1, node["type"]
        for other in nodes:
            assert node is other or not overlap(node, other), (node["type"], other["type"])


def inside(node, box):
    (x, y), (width, height) = node["pos"], node["size"]
    return box[0] <= x and box[1] <= y and x + width <= box[0] + box[2] and y + height <= box[1] + box[3]


def overlap(one, other):
    (x, y), (width, height) = one["pos"], one["size"]
    (u, v), (w, h) = other["pos"], other["size"]
    return x < u + w and u < x + width and y < v + h and v < y + height


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_every_node_has_a_help_page_with_a_picture_and_all_its_inputs(node):
    schema = node.define_schema()
    page = ROOT / "web" / "docs" / f"{schema.node_id}.md"
    text = page.read_text()
    assert text.startswith(f"# {schema.display_name}\n")
    for each in (*schema.inputs, *schema.outputs):
        optional = " (optional)" if getattr(each, "optional", None) else ""
        assert f"- **{each.display_name or each.id}**{optional}: {each.tooltip}\n" in text, each.id
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (page.parent / picture).stat().st_size < 100_000


def test_values_are_set_by_name_node_and_title_and_keep_their_kind():
    graph = read_workflow(FOLDER / "prompt_with_and_without_jointcfg.json")
    set_input(graph, "prompt=heavy rain = loud")
    set_input(graph, "Sample with JointCFG.steps=3")
    set_input(graph, "fps=12")
    set_input(graph, "mode.audio_joint_scale=3")
    nodes = {node["_meta"]["title"]: node["inputs"] for node in graph.values()}
    assert nodes["JointDiTCondition"]["prompt"] == "heavy rain = loud" and nodes["JointDiTCondition"]["fps"] == 12.0
    assert nodes["Sample with JointCFG"]["steps"] == 3 and nodes["Sample without JointCFG"]["steps"] == 0
    assert nodes["With JointCFG"]["mode.audio_joint_scale"] == 3.0
    assert isinstance(nodes["JointDiTMux"]["fps"], list)  # a link stays one


def test_files_go_to_the_loaders_of_their_kind():
    graph = read_workflow(FOLDER / "animate_to_a_sound.json")
    set_file(graph, "image", "a.png")
    set_file(graph, "audio", "b.wav")
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert inputs["LoadImage"] == {"image": "a.png"} and inputs["LoadAudio"] == {"audio": "b.wav"}
    with pytest.raises(InputError, match="--video: the workflow has no Load Video node"):
        set_file(graph, "video", "c.mp4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prompt", "give NAME=VALUE"),
        ("promt=x", "one of .*prompt"),
        ("steps=many", "a value like 0"),
        ("video=1", "NAME"),
    ],
)
def test_changes_that_fit_nothing_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        set_input(read_workflow(PAGES[0]), change)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "not a ComfyUI workflow"), ('{"a": 1}', "not a ComfyUI workflow")],
)
def test_files_that_are_no_workflow_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_workflow(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_workflow(tmp_path / "none.json")
