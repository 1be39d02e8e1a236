// One head seen large: a strip of tokens and a matrix, or lines. Drawn from `data` alone and drawn
// anew on each change. Texts are set with textContent only: tokens are data.

const stores = new WeakMap();

function drawHeadOptions(host, data, options, lineable, change) {
  const pair = element("span", "joined-tools");
  pair.append(toggle("Matrix", !options.lines || !lineable, () => change({ lines: false })));
  const lines = toggle("Lines", options.lines && lineable, () => change({ lines: true }));
  lines.disabled = !lineable;
  pair.append(lines);
  const note = lineable ? [] : [element("span", "note", whyNoLines(data))];
  const swap = toggle("Swap source and destination", options.swap, () =>
    change({ swap: !options.swap }),
  );
  host.replaceChildren(pair, ...note, swap);
  if (data.bos) host.append(toggle("Start token", options.bos, () => change({ bos: !options.bos })));
  if (data.kind !== "scores") host.append(massField(options, change));
}

function massField(options, change) {
  const label = element("label", "option-field");
  const number = element("span", "mono mass", `${Math.round(100 * options.mass)}%`);
  const range = element("input");
  Object.assign(range, { type: "range", min: "10", max: "100", step: "5" });
  range.value = String(Math.round(100 * options.mass));
  range.oninput = () => {
    number.textContent = `${range.value}%`;
    change({ mass: +range.value / 100 }, false);
  };
  range.onchange = () => change({ mass: +range.value / 100 });
  label.append("Strongest edges that hold ", number, " of what is shown", range);
  return label;
}

function whyNoLines(data) {
  if (data.kind === "scores") return "Scores before the softmax are not drawn as lines.";
  return `Lines are drawn for up to ${data.mostLineTokens} tokens; this prompt has ${data.tokens.length}.`;
}

function drawHeadLegend(legend, { data, ramp }, options) {
  const label = kindLabel(data.kind);
  if (options.lines && canDrawLines(data)) {
    const words = `The fuller a line, the more ${label}; a line's colour is its head's`;
    legend.replaceChildren(element("span", "", words));
  } else legend.replaceChildren(...colorScale(label, ramp, scaleTicks(data)));
}

// Everything below the options; `store` keeps what the learner locked.
function drawStage(root, store, send) {
  const { data, options } = store;
  const view = {
    data,
    edges: edgesOf(data, options),
    ramp: themeRamp(root, data.kind === "scores" ? "diverging" : "sequential"),
    second: categoryColors(root)[1] ?? "#b4500b",
    host: root,
  };
  const scene = { root, store, send, view, tokens: [], mark: () => {} };
  const act = { ...pointing(scene), ...choosing(scene), ...turning(scene) };
  const [strip, stage] = [root.querySelector(".strip"), root.querySelector(".stage")];
  const backToFocus = focusKeeper(root);
  const backToScroll = scrollKeeper(root, store);
  root.querySelector(".tip").hidden = true;
  drawHeadLegend(root.querySelector(".legend"), view, options);
  strip.replaceChildren();
  if (options.lines && canDrawLines(data)) {
    scene.mark = drawLines(stage, view, options, store.locked, act);
  } else {
    scene.tokens = drawStrip(strip, data, view.edges, act);
    scene.mark = drawMatrix(stage, view, options, act);
  }
  showChosen(scene);
  backToScroll();
  backToFocus();
  const draw = () => headPicture(root, view, options);
  const name = `attention-${headName(data.layer, data.head)}`;
  drawTools(root.querySelector(".tools"), { name, withLink: true, draw });
}

function canDrawLines(data) {
  return data.kind !== "scores" && data.tokens.length <= data.mostLineTokens;
}

// The nodes are drawn anew, so the focus goes to the new one at the same place.
function focusKeeper(root) {
  const focused = root.getRootNode().activeElement;
  if (!focused || !root.contains(focused)) return () => {};
  const group = [".field", ".strip-line", ".side.left", ".side.right", ".heads"].find((name) =>
    focused.closest(name),
  );
  if (!group) return () => {};
  const token = focused.dataset.token;
  return () => {
    const host = root.querySelector(group);
    const node = token === undefined ? null : host?.querySelector(`[data-token="${token}"]`);
    (node ?? host?.querySelector('[tabindex="0"]') ?? host)?.focus({ preventScroll: true });
  };
}

// A new choice leaves the reader where they were; a new prompt begins at its start.
function scrollKeeper(root, store) {
  const places = [".stage .scroller", ".strip-line"].map((name) => {
    const { scrollTop, scrollLeft } = root.querySelector(name) ?? {};
    return { name, scrollTop, scrollLeft };
  });
  const same = store.drawnPrompt === store.data.prompt;
  store.drawnPrompt = store.data.prompt;
  return () => {
    places.forEach(({ name, scrollTop, scrollLeft }) => {
      const node = root.querySelector(name);
      if (same && node && scrollTop !== undefined) Object.assign(node, { scrollTop, scrollLeft });
    });
  };
}

function drawAll(root, store, send) {
  const { data, options } = store;
  store.change = (part, tell = true) => {
    Object.assign(options, part);
    if (tell) {
      drawHeadOptions(root.querySelector(".options"), data, options, canDrawLines(data), store.change);
      send("options", { ...options });
    }
    drawStage(root, store, send);
  };
  const where = `Block ${data.layer}, head ${data.head}`;
  root.querySelector(".title").textContent = `${data.title}: ${where}`;
  drawHeadOptions(root.querySelector(".options"), data, options, canDrawLines(data), store.change);
  drawStage(root, store, send);
  root.dataset.head = headName(data.layer, data.head);
  root.dataset.prompt = data.prompt;
  root.dataset.ready = "false";
  readyAfterPaint(root);
}

// The grid's own bytes, until the page sends the values themselves.
function preview(data, told) {
  const same = ["link", "prompt", "kind"].every((name) => told[name] === data[name]);
  const { layer, head } = told;
  if (!same || told.levels.length !== edgeAt(data.tokens.length, 0)) return null;
  if (layer === data.layer && head === data.head) return null;
  const values = { [head]: Array.from(told.levels, (level) => weightOf(level) * told.top) };
  return { ...data, layer, head, values, selected: { ...data.selected, layer, head } };
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".attention");
  const store = stores.get(parentElement) ?? { locked: null };
  stores.set(parentElement, store);
  if (store.prompt !== data.prompt) store.locked = null;
  store.prompt = data.prompt;
  store.options = keptOptions(store, data.options);
  store.data = { ...data };
  root.dataset.source = "page";
  drawAll(root, store, setTriggerValue);

  if (store.listen) window.removeEventListener(HEAD_CHOSEN, store.listen);
  store.listen = (event) => {
    const early = preview(store.data, event.detail);
    if (!early) return;
    store.data = early;
    root.dataset.source = "grid";
    drawAll(root, store, setTriggerValue);
  };
  window.addEventListener(HEAD_CHOSEN, store.listen);
  return () => {
    window.removeEventListener(HEAD_CHOSEN, store.listen);
    stores.delete(parentElement);
  };
}
