// What the widgets of this extension's nodes show.
//
// A number such as 0 that stands for "the model's own" is shown in these words, with the model's number where the node
// that loads it is there. The schemas of the nodes say which numbers these are (`own` in nodes/sockets.py). The page's
// Vue nodes (Nodes 2.0) draw numbers themselves and ask no one for words: there the words stand behind the name.
// Advanced widgets are folded while they are at their defaults; "Show Advanced" in the node's menu unfolds them.
//
// The notes of the templates can be read where ComfyUI opens them. It shows the whole of a template, at half its size or
// two thirds; notes have letters of 10 px of the canvas, and below 0.57 of its size they are not drawn at all. A workflow
// cannot say otherwise.

import { app } from "../../scripts/app.js";

const OWN = "jointdit_own";
const DEFAULTS = "jointdit_defaults";
const worded = new WeakSet(); // classes of widgets that show words
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

/** The input of a load node that states the own values of its models, in the schema of this node; or nothing. */
function modelsOf(node) {
  const inputs = Object.entries(inputOptions(node?.constructor?.nodeData?.input));
  const [name, options] = inputs.find(([, each]) => each[DEFAULTS]) ?? [];
  return name && { name, values: options[DEFAULTS] };
}

/** The own values of the model of a node: the one that it is connected to or, on the outside of a subgraph, the one that
 * is loaded inside. Empty where the load node does not state them. */
function ownValues(node) {
  const inside = node.subgraph?.nodes.find(modelsOf);
  const loader = inside ?? node.getInputNode?.(node.findInputSlot?.("model"));
  const models = modelsOf(loader);
  if (!models) return {};
  const chosen = (each) => each?.widgets?.find((widget) => widget.name === models.name)?.value;
  return models.values[(inside && chosen(node)) ?? chosen(loader)] ?? {};
}

function ownWords(node, own) {
  const given = node.inputs?.some((input) => own.unless.includes(input.name) && input.link != null);
  if (given) return "as what is given";
  const number = ownValues(node)[own.field];
  return number === undefined ? own.label : `${own.label} (${number})`;
}

/** Marks a widget. The words are those of its class, because a subgraph draws copies that have its options and no more. */
function showOwn(widget, own) {
  widget.options[OWN] = own;
  const kind = Object.getPrototypeOf(widget);
  if (worded.has(kind)) return;
  worded.add(kind);
  const shown = Object.getOwnPropertyDescriptor(kind, "_displayValue");
  Object.defineProperty(kind, "_displayValue", {
    configurable: true,
    get() {
      const own = this.options?.[OWN];
      if (own && this.value === own.value && !this.computedDisabled) return ownWords(this.node, own);
      return shown ? shown.get.call(this) : Reflect.get(Object.getPrototypeOf(kind), "_displayValue", this);
    },
  });
}

const LOOK = 300; // milliseconds between two looks at Vue nodes, which are drawn anew without a word
const names = new WeakMap(); // what widgets were called, and what they were named by us

/** Puts the words behind the names of widgets, in Vue nodes, and takes them away again. */
function nameOwn(graph) {
  for (const node of graph?.nodes ?? []) {
    for (const widget of node.widgets ?? []) {
      const own = widget.options?.[OWN];
      if (!own) continue;
      const before = names.get(widget);
      const plain = before?.label === widget.label ? before?.plain : widget.label; // or the user renamed it
      const stands = LiteGraph.vueNodesMode && widget.value === own.value;
      const label = stands ? `${plain ?? widget.name}: ${ownWords(node, own)}` : plain;
      if (widget.label !== label) widget.label = label;
      names.set(widget, { plain, label });
    }
  }
}

/** Gives the text of a note, inside one of these elements, the letters that its property asks for. */
function enlarge(node, elements) {
  const size = Number(node.properties?.[LETTERS]);
  if (!(size > 0)) return;
  for (const element of elements) {
    for (const part of element.querySelectorAll(".tiptap, .comfy-markdown-content, textarea")) {
      part.style.fontSize = `max(${size}px, var(--comfy-textarea-font-size))`;
    }
  }
}

let drawn = false; // as Vue nodes, when they were looked at last

function lookAtVueNodes() {
  const graph = app.canvas?.graph;
  if (LiteGraph.vueNodesMode || drawn) nameOwn(graph); // once more after they were switched off
  drawn = LiteGraph.vueNodesMode;
  if (!drawn) return;
  for (const node of graph?.nodes ?? []) {
    if (node.properties?.[LETTERS]) enlarge(node, document.querySelectorAll(`[data-node-id="${node.id}"]`));
  }
}

function fold(widget, unchanged) {
  const get = () => widget.value === unchanged;
  Object.defineProperty(widget, "advanced", { configurable: true, get, set() {} });
}

app.registerExtension({
  name: "JointDiT.Widgets",
  setup() {
    setInterval(lookAtVueNodes, LOOK);
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("JointDiT")) return;
    const known = inputOptions(nodeData.input);
    const add = nodeType.prototype.addCustomWidget;
    nodeType.prototype.addCustomWidget = function (widget) {
      const added = add.call(this, widget);
      const options = known[added.name?.split(".").pop()];
      if (options?.[OWN]) showOwn(added, options[OWN]);
      if (options?.advanced) fold(added, options.default);
      return added;
    };
  },
  loadedGraphNode(node) {
    const drawn = node.properties?.[LETTERS] ? node.widgets?.filter((each) => each.element) ?? [] : [];
    for (const widget of drawn) widget.options.hideOnZoom = false;
    enlarge(node, drawn.map((widget) => widget.element));
  },
});
