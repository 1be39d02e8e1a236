// Lines from destinations to sources, several heads in colours, for a short prompt.

const LINE_HEIGHT = 28;
const LEAST_SHOWN = 0.01;

// The chosen head first, then the others that were turned on and whose values are here.
function drawnHeads(data, options) {
  const others = options.heads.filter((head) => head !== data.head && data.values[String(head)]);
  return [data.head, ...others];
}

function drawHeads(data, options, colors, act) {
  const host = element("div", "heads");
  host.setAttribute("role", "group");
  host.setAttribute(
    "aria-label",
    `Heads of block ${data.layer}. Enter turns one on or off, Shift and Enter opens it.`,
  );
  host.append(element("span", "", "Heads"));
  const drawn = drawnHeads(data, options);
  const squares = Array.from({ length: data.heads }, (_, head) => {
    const on = drawn.includes(head);
    const square = element("button", "head mono", String(head));
    square.type = "button";
    square.disabled = !data.values[String(head)];
    square.setAttribute("aria-pressed", String(on));
    square.setAttribute("aria-label", `head ${head}${head === data.head ? ", the chosen one" : ""}`);
    square.style.borderColor = colors(head);
    if (on) {
      square.style.backgroundColor = colors(head);
      square.style.color = inkOn(channels(colors(head)));
    }
    square.onclick = (event) => {
      if (event.shiftKey) act.open(head);
      else if (head !== data.head) act.toggleHead(head);
    };
    square.ondblclick = () => act.open(head);
    return square;
  });
  host.append(...squares, element("span", "note", "double click opens one alone"));
  const focus = rovingFocus(squares, data.head);
  host.onkeydown = (event) => {
    const at = squares.indexOf(event.target);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1 };
    if (at < 0 || !(event.key in to)) return;
    focus(to[event.key]);
    event.preventDefault();
  };
  return host;
}

function drawSide(view, side, title) {
  const { data, edges } = view;
  const host = element("div", `side ${side}`);
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", title);
  for (let token = edges.first; token < edges.size; token += 1) {
    const node = element("button", "line-token mono");
    node.type = "button";
    node.append(element("span", "token-text", data.tokens[token]), element("span", "weights"));
    node.setAttribute("aria-label", `token ${token}: ${data.tokens[token]}`);
    node.dataset.token = String(token);
    host.append(node);
  }
  return host;
}

function drawLineShapes(view, options, colors) {
  const { data, edges } = view;
  const height = (edges.size - edges.first) * LINE_HEIGHT;
  const frame = { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height };
  const svg = shape("svg", { ...frame, "aria-hidden": "true", class: "line-shapes" });
  const y = (token) => (token - edges.first + 0.5) * LINE_HEIGHT;
  drawnHeads(data, options).forEach((head) => {
    for (let dest = edges.first; dest < edges.size; dest += 1) {
      for (let src = edges.first; src <= dest; src += 1) {
        const weight = Math.min(edges.value(dest, src, head) / data.top, 1);
        if (!edges.shown(dest, src, head) || weight < LEAST_SHOWN) continue;
        const [from, to] = options.swap ? [src, dest] : [dest, src];
        const ends = { x1: 0, y1: y(from), x2: 100, y2: y(to) };
        const paint = { stroke: colors(head), "stroke-opacity": weight.toFixed(3) };
        const line = shape("line", { ...ends, ...paint, "vector-effect": "non-scaling-stroke" });
        Object.assign(line.dataset, { dest, src });
        svg.append(line);
      }
    }
  });
  return svg;
}

// What is lit: {side: "dest" | "src", token}, or null for all lines.
function light(field, view, options, colors, lit) {
  field.querySelectorAll("line").forEach((line) => {
    const off = lit && +line.dataset[lit.side] !== lit.token;
    line.style.display = off ? "none" : "";
  });
  field.querySelectorAll(".line-token").forEach((node) => {
    const side = node.parentElement.dataset.side;
    const token = +node.dataset.token;
    node.classList.toggle("shown", lit !== null && side === lit.side && token === lit.token);
    const weights = node.querySelector(".weights");
    weights.replaceChildren();
    if (!lit || side === lit.side) return;
    const [dest, src] = side === "src" ? [lit.token, token] : [token, lit.token];
    if (src > dest) return;
    const heads = drawnHeads(view.data, options);
    heads.forEach((head) => {
      const chip = element("span", "chip");
      const shown = view.edges.shown(dest, src, head);
      const weight = shown ? view.edges.value(dest, src, head) / view.data.top : 0;
      chip.style.backgroundColor = colors(head);
      chip.style.opacity = Math.min(Math.max(weight, 0), 1).toFixed(3);
      weights.append(chip);
    });
    if (heads.length > 1 || !view.edges.shown(dest, src)) return;
    weights.append(writeValue(view.data.kind, view.edges.value(dest, src)));
  });
}

// Draws them and returns what marks the chosen edge.
function drawLines(stage, view, options, locked, act) {
  const { data, edges, host } = view;
  const listed = categoryColors(host);
  const colors = (head) => listed[head % listed.length];
  const field = element("div", "lines-field");
  const names = { dest: "Destinations: the tokens that look", src: "Sources: what is looked at" };
  const order = options.swap ? ["src", "dest"] : ["dest", "src"];
  const sides = order.map((name, at) => {
    const side = drawSide(view, at ? "right" : "left", names[name]);
    side.dataset.side = name;
    return side;
  });
  const heads = order.map((name, at) => {
    const words = name === "dest" ? "destination" : "source";
    return element("div", `side-name ${at ? "right" : "left"}`, words);
  });
  field.append(heads[0], element("div"), heads[1]);
  field.append(sides[0], drawLineShapes(view, options, colors), sides[1]);
  stage.replaceChildren(drawHeads(data, options, colors, act), field);
  const show = (lit) => light(field, view, options, colors, lit);
  show(locked);
  sides.forEach((side) => connectSide(side, view, locked, { ...act, show }));
  return ({ dest, src }) => {
    sides.forEach((side) => {
      const chosen = side.dataset.side === "dest" ? dest : src;
      [...side.children].forEach((node) => {
        node.setAttribute("aria-pressed", String(+node.dataset.token === chosen));
      });
    });
  };
}

function connectSide(side, { data, edges }, locked, act) {
  const nodes = [...side.children];
  const name = side.dataset.side;
  const focus = rovingFocus(nodes, data.selected[name] - edges.first);
  const nodeOf = (event) => event.target.closest?.(".line-token");
  const hover = (node) => {
    if (!locked) act.show({ side: name, token: +node.dataset.token });
  };
  side.onpointerover = (event) => {
    const node = nodeOf(event);
    if (node && event.pointerType === "mouse") hover(node);
  };
  side.onpointerleave = () => act.show(locked);
  side.onfocusin = (event) => {
    const node = nodeOf(event);
    if (node?.matches(":focus-visible")) hover(node);
  };
  side.onfocusout = () => act.show(locked);
  side.onclick = (event) => {
    const node = nodeOf(event);
    if (!node) return;
    focus(nodes.indexOf(node), false);
    act.pick(name, +node.dataset.token);
  };
  side.onkeydown = (event) => {
    const at = nodes.indexOf(nodeOf(event));
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: nodes.length - 1 };
    if (event.key === "Escape") act.release();
    if (!(event.key in to)) return;
    focus(to[event.key]);
    event.preventDefault();
  };
}
