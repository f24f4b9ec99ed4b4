// What the widgets of this extension's nodes show.
//
// A number such as 0 that stands for "the model's own" is shown in these words, with the model's number where the node
// that loads it is there. The schemas of the nodes say which numbers these are (`own` in nodes/sockets.py).
// Advanced widgets are folded while they are at their defaults; "Show Advanced" in the node's menu unfolds them.
//
// The notes of the templates can be read where ComfyUI opens them. It shows the whole of a template, at half its size or
// two thirds; notes have letters of 10 px of the canvas, and below 0.57 of its size they are not drawn at all. A workflow
// cannot say otherwise.

import { app } from "../../scripts/app.js";

const OWN = "jointdit_own";
const DEFAULTS = "jointdit_defaults";
const LETTERS = "jointdit_letters"; // a property of notes: pixels of the canvas, at least

/** The options of all inputs of a schema by name, those inside a dynamic combo included. */
function inputOptions(schema) {
  const found = {};
  for (const inputs of Object.values(schema ?? {})) {
    for (const [name, [type, options]] of Object.entries(inputs)) {
      found[name] = { default: Array.isArray(type) ? type[0] : options?.options?.[0], ...options };
      for (const option of options?.options ?? []) Object.assign(found, inputOptions(option?.inputs));
    }
  }
  return found;
}

/** The own values of the model that a node is connected to; empty where its load node does not state them. */
function ownValues(node) {
  const loader = node.getInputNode?.(node.findInputSlot?.("model"));
  for (const [name, options] of Object.entries(inputOptions(loader?.constructor?.nodeData?.input))) {
    if (options[DEFAULTS]) return options[DEFAULTS][loader.widgets?.find((each) => each.name === name)?.value] ?? {};
  }
  return {};
}

function showOwn(node, widget, own) {
  Object.defineProperty(widget, "_displayValue", {
    configurable: true,
    get() {
      const plain = Reflect.get(Object.getPrototypeOf(this), "_displayValue", this);
      if (this.value !== own.value || this.computedDisabled) return plain;
      const given = node.inputs?.some((input) => own.unless.includes(input.name) && input.link != null);
      if (given) return "as what is given";
      const number = ownValues(node)[own.field];
      return number === undefined ? own.label : `${own.label} (${number})`;
    },
  });
}

function fold(widget, unchanged) {
  const get = () => widget.value === unchanged;
  Object.defineProperty(widget, "advanced", { configurable: true, get, set() {} });
}

app.registerExtension({
  name: "JointDiT.Widgets",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("JointDiT")) return;
    const known = inputOptions(nodeData.input);
    const add = nodeType.prototype.addCustomWidget;
    nodeType.prototype.addCustomWidget = function (widget) {
      const added = add.call(this, widget);
      const options = known[added.name?.split(".").pop()];
      if (options?.[OWN]) showOwn(this, added, options[OWN]);
      if (options?.advanced) fold(added, options.default);
      return added;
    };
  },
  loadedGraphNode(node) {
    const size = node.properties?.[LETTERS];
    if (!(size > 0)) return;
    for (const widget of node.widgets?.filter((each) => each.element) ?? []) {
      widget.options.hideOnZoom = false;
      for (const part of widget.element.querySelectorAll(".tiptap, textarea")) {
        part.style.fontSize = `max(${Number(size)}px, var(--comfy-textarea-font-size))`;
      }
    }
  },
});
