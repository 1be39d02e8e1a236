// Query, key and their products, a bar a dimension, and how they make the score and the weight.
// Drawn from `data` alone and drawn anew on each change. Texts are set with textContent only.

const stores = new WeakMap();

// The rows of bars, each in the chosen order of dimensions.
function barRows(data, order) {
  const pick = (values) => order.map((dimension) => values[dimension]);
  const products = pick(data.products);
  let sum = 0;
  const running = products.map((product) => (sum += product));
  const [dest, src] = [data.tokens[data.dest], data.tokens[data.src]];
  return [
    { name: "query", of: dest, values: pick(data.query) },
    { name: "key", of: src, values: pick(data.key) },
    { name: "query × key", of: "", values: products },
    { name: "sum so far", of: "", values: running },
  ].map((row) => ({ ...row, top: Math.max(...row.values.map(Math.abs), 1e-9) }));
}

function orderOf(data, bySize) {
  const order = data.products.map((_, dimension) => dimension);
  const size = (dimension) => Math.abs(data.products[dimension]);
  return bySize ? order.sort((a, b) => size(b) - size(a) || a - b) : order;
}

function signColors(root) {
  const ramp = themeRamp(root, "diverging");
  const css = (rgb) => `rgb(${rgb.join(",")})`;
  return { minus: css(ramp[1] ?? ramp[0]), plus: css(ramp[ramp.length - 2]) };
}

function drawBars(grid, rows, order, colors) {
  grid.replaceChildren();
  grid.style.setProperty("--columns", String(order.length));
  return rows.map((row) => {
    const line = element("div", "line");
    line.setAttribute("role", "row");
    const label = element("div", "row-label");
    label.setAttribute("role", "rowheader");
    label.append(element("span", "", row.name), element("span", "mono row-token", row.of));
    line.append(label);
    const cells = row.values.map((value, at) => {
      const cell = element("div", "bar-cell");
      const bar = element("span", value < 0 ? "bar minus" : "bar plus");
      bar.style.height = `${(50 * Math.abs(value)) / row.top}%`;
      bar.style.backgroundColor = value < 0 ? colors.minus : colors.plus;
      cell.append(bar);
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-label", `dimension ${order[at]}, ${row.name} ${value.toFixed(3)}`);
      return cell;
    });
    line.append(...cells);
    grid.append(line);
    return cells;
  });
}

function fillBarTip(tip, data, dimension, soFar) {
  const [q, k, product] = [data.query, data.key, data.products].map((list) => list[dimension]);
  const said = [
    `q ${q.toFixed(3)} × k ${k.toFixed(3)} = ${product.toFixed(3)}`,
    `adds ${(product * data.scale).toFixed(3)} to the score`,
    `sum so far ${soFar.toFixed(3)}`,
  ];
  tip.replaceChildren(element("div", "tip-head", `Dimension ${dimension}`));
  said.forEach((text) => tip.append(element("div", "mono", text)));
}

// "sum × scale + what else = ", to which the score is added.
function sumText(data) {
  const rest = hasRest(data)
    ? ` ${data.remainder < 0 ? "−" : "+"} ${Math.abs(data.remainder).toFixed(3)}`
    : "";
  return `${data.sum.toFixed(3)} × ${data.scale.toPrecision(4)}${rest} = `;
}

function hasRest(data) {
  return Math.abs(data.remainder) >= 0.0005;
}

function weightText(data) {
  return percent(data.weights[data.src] ?? 0);
}

function drawSum(host, data) {
  host.replaceChildren("Sum of the products times the scale");
  if (hasRest(data)) host.append(", and what else the score holds");
  host.append(": ", element("span", "mono", sumText(data)));
  host.append(element("strong", "mono", data.score.toFixed(3)), ", the score. After the softmax: ");
  host.append(element("strong", "mono", weightText(data)), ".");
}

function drawWeights(root, data, choose) {
  const title = root.querySelector(".row-title");
  title.replaceChildren("All that ", element("span", "mono", data.tokens[data.dest]), " looks at:");
  const host = root.querySelector(".weights");
  host.setAttribute("aria-label", `Sources of ${data.tokens[data.dest]}. Enter selects one.`);
  const ramp = themeRamp(root, "sequential");
  const nodes = data.tokens.map((token, src) => {
    const weight = data.weights[src] ?? 0;
    const node = element("div", "weight mono");
    const { fill, ink } = paintOf(root, ramp, Math.sqrt(Math.max(weight, 0)));
    node.style.backgroundColor = fill;
    node.style.color = ink;
    node.append(element("span", "weight-token", token), element("span", "", percent(weight)));
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", String(src === data.src));
    node.setAttribute("aria-label", `token ${src}: ${token}, ${percent(weight)}`);
    return node;
  });
  host.replaceChildren(...nodes);
  const focus = rovingFocus(nodes, data.src);
  host.onclick = (event) => {
    const src = nodes.indexOf(event.target.closest?.(".weight"));
    if (src < 0) return;
    focus(src, false);
    choose(src);
  };
  host.onkeydown = (event) => {
    const at = nodes.indexOf(event.target);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: nodes.length - 1 };
    to.ArrowUp = to.ArrowLeft;
    to.ArrowDown = to.ArrowRight;
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") choose(at);
    else if (event.key in to) focus(to[event.key]);
    else return;
    event.preventDefault();
  };
  return nodes;
}

function connectBars(root, grid, cells, act) {
  const tip = root.querySelector(".tip");
  let [row, column] = [2, 0];
  cells.flat().forEach((cell) => {
    cell.tabIndex = -1;
  });
  cells[row][column].tabIndex = 0;
  const placeOf = (cell) => {
    const at = cells.findIndex((line) => line.includes(cell));
    return at < 0 ? null : [at, cells[at].indexOf(cell)];
  };
  const show = (cell) => {
    const place = placeOf(cell);
    if (!place) return;
    act.fill(place[1]);
    placeTip(tip, cell);
  };
  const hide = () => {
    tip.hidden = true;
  };
  grid.onpointerover = (event) => show(event.target.closest?.(".bar-cell"));
  grid.onpointerleave = hide;
  grid.onfocusin = (event) => {
    if (event.target.matches(":focus-visible")) show(event.target);
  };
  grid.onfocusout = hide;
  root.querySelector(".scroller").onscroll = hide;
  grid.onkeydown = (event) => {
    if (event.key === "Escape") hide();
    const to = moved(event.key, row, column, cells.length - 1, cells[0].length - 1, -1);
    if (!to) return;
    cells[row][column].tabIndex = -1;
    [row, column] = to;
    cells[row][column].tabIndex = 0;
    cells[row][column].focus();
    event.preventDefault();
  };
}

function draw(root, store, choose) {
  const { data, bySize } = store;
  const order = orderOf(data, bySize);
  const rows = barRows(data, order);
  const colors = signColors(root);
  const grid = root.querySelector(".grid");
  root.querySelector(".tip").hidden = true;
  const title = root.querySelector(".title");
  title.replaceChildren(`Block ${data.layer}, head ${data.head}: how `);
  title.append(element("span", "mono", data.tokens[data.dest]), " comes to look at ");
  title.append(element("span", "mono", data.tokens[data.src]));
  const pair = element("span", "joined-tools");
  [false, true].forEach((size) => {
    const act = () => draw(root, Object.assign(store, { bySize: size }), choose);
    pair.append(toggle(size ? "Largest first" : "By dimension", bySize === size, act));
  });
  root.querySelector(".options").replaceChildren(pair);
  grid.setAttribute("aria-label", "Query, key and their products, one column a dimension");
  const cells = drawBars(grid, rows, order, colors);
  const fill = (at) =>
    fillBarTip(root.querySelector(".tip"), data, order[at], rows[3].values[at]);
  connectBars(root, grid, cells, { fill });
  drawSum(root.querySelector(".sum"), data);
  const nodes = drawWeights(root, data, choose);
  const picture = () => neuronPicture(root, data, rows, colors);
  const name = `query-key-${headName(data.layer, data.head)}`;
  drawTools(root.querySelector(".tools"), { name, withLink: true, draw: picture });
  return nodes;
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".attention");
  const store = stores.get(parentElement) ?? { bySize: false };
  stores.set(parentElement, store);
  store.data = data;
  root.dataset.ready = "false";
  const hadFocus = root.querySelector(".weights").contains(parentElement.activeElement ?? null);
  const { layer, head, dest } = data;
  const nodes = draw(root, store, (src) => setTriggerValue("chosen", { layer, head, dest, src }));
  if (hadFocus) nodes[data.src].focus();
  root.dataset.edge = `${headName(layer, head)} ${dest} ${data.src}`;
  readyAfterPaint(root);
  return () => {
    stores.delete(parentElement);
  };
}
