// The lens grid: states by tokens, one guess a cell. Drawn from `data` alone and drawn anew on each
// change, so calling it twice gives the same page. Texts are set with textContent only.

const stores = new WeakMap();

// The last state on top, for the text enters below and the answer comes out above; or turned over.
function shownRows(data) {
  const rows = data.rows.map((_, row) => row);
  return data.flip ? rows : rows.reverse();
}

function drawLegend(legend, data, ramp) {
  const unit = data.quantity.unit ? ` (${data.quantity.unit})` : "";
  legend.replaceChildren(...colorScale(data.quantity.label + unit, ramp, data.quantity.ticks));
  const keys = data.other
    ? [["differs", "the best guesses differ"]]
    : [
        ["settled", "already the final answer"],
        ["echo", "the token just read"],
        ["follows", "what really follows"],
      ];
  keys.forEach(([mark, meaning]) => {
    const key = element("span", "legend-key");
    key.append(element("span", `swatch ${mark}`, { differs: "≠", follows: "•" }[mark] ?? ""), meaning);
    legend.append(key);
  });
}

function drawCell(host, data, row, column, ramp) {
  const cell = cellAt(data, row, column);
  const node = element("div", "cell mono");
  const { fill, ink } = paintOf(host, ramp, cell.shade);
  node.style.backgroundColor = fill;
  node.style.color = ink;
  node.append(element("span", "cell-text", cell.guesses[0].text));
  ["settled", "echo", "follows", "differs"].forEach((mark) => {
    node.classList.toggle(mark, cell[mark]);
  });
  node.setAttribute("role", "gridcell");
  node.setAttribute("aria-label", spoken(data, row, column, cell));
  node.dataset.row = String(row);
  node.dataset.column = String(column);
  node.tabIndex = -1;
  return node;
}

function line(label, title, className) {
  const node = element("div", "line");
  node.setAttribute("role", "row");
  const head = element("div", `row-label ${className}`, label);
  head.setAttribute("role", "rowheader");
  head.setAttribute("aria-label", title);
  head.title = title;
  node.append(head);
  return node;
}

// Above the grid: what really follows, with a tick where the model's own answer is that token.
function drawNext(data) {
  const node = line("next", "the token that really follows in the prompt", "corner");
  data.tokens.forEach((_, column) => {
    const next = data.tokens[column + 1];
    const right = data.final[column] === data.read[column + 1];
    const text = next === undefined ? "" : `${right ? "✓" : "✗"} ${next}`;
    const cell = element("div", "next mono", text);
    cell.setAttribute("role", "gridcell");
    if (next !== undefined) {
      const verdict = right ? "and the model says so" : "but the model says";
      const answer = right ? "" : ` ${data.vocab[data.final[column]]}`;
      cell.title = `${next} follows, ${verdict}${answer}`;
      cell.setAttribute("aria-label", cell.title);
    }
    node.append(cell);
  });
  return node;
}

function drawFeet(data) {
  const node = line("reads", "the token that is read", "corner");
  data.tokens.forEach((token, column) => {
    const isBos = column === 0 && data.bos;
    const foot = element("div", isBos ? "foot bos" : "foot mono", isBos ? "start" : token);
    foot.setAttribute("role", "columnheader");
    foot.title = isBos ? `the start token, ${token}` : `token ${column}: ${token}`;
    node.append(foot);
  });
  return node;
}

function drawStrip(data) {
  return data.strip.map((entry) => {
    const node = line(entry.label, entry.title, "strip-label");
    entry.values.forEach((value, column) => {
      const cell = element("div", "strip mono", value);
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-label", `${entry.title}, at ${data.tokens[column]}: ${value}`);
      node.append(cell);
    });
    return node;
  });
}

function drawGrid(host, grid, data, ramp) {
  grid.replaceChildren();
  grid.style.setProperty("--columns", String(data.tokens.length));
  const cells = [];
  if (!data.other) grid.append(drawNext(data));
  shownRows(data).forEach((row) => {
    const node = line(data.rows[row].label, data.rows[row].title, "mono");
    cells[row] = data.tokens.map((_, column) => drawCell(host, data, row, column, ramp));
    node.append(...cells[row]);
    grid.append(node);
  });
  grid.append(drawFeet(data), ...drawStrip(data));
  grid.setAttribute("aria-rowcount", String(grid.children.length));
  grid.setAttribute("aria-colcount", String(data.tokens.length + 1));
  return cells;
}

function markSelected(grid, cells, selected) {
  cells.forEach((row, at) =>
    row.forEach((node, column) => {
      const here = at === selected.row && column === selected.column;
      node.setAttribute("aria-selected", String(here));
    }),
  );
  grid.querySelectorAll(".foot").forEach((foot, column) => {
    foot.classList.toggle("chosen", column === selected.column);
  });
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".lens");
  const grid = root.querySelector(".grid");
  const scroller = root.querySelector(".scroller");
  const tip = root.querySelector(".tip");
  const ramp = themeRamp(root, data.quantity.diverging ? "diverging" : "sequential");
  const store = stores.get(parentElement) ?? {};
  stores.set(parentElement, store);

  root.dataset.ready = "false";
  tip.hidden = true;
  const hadFocus = grid.contains(parentElement.activeElement ?? null);
  grid.setAttribute("aria-label", data.label);
  root.querySelector(".title").textContent = data.title;
  drawLegend(root.querySelector(".legend"), data, ramp);
  const draw = () => pictureOf(root, data, ramp);
  drawTools(root.querySelector(".tools"), { name: "lens", withLink: data.first, draw });
  const cells = drawGrid(root, grid, data, ramp);
  markSelected(grid, cells, data.selected);

  const lastRow = data.rows.length - 1;
  const lastColumn = data.tokens.length - 1;
  const samePrompt = store.prompt === data.prompt;
  const focus = (samePrompt && store.focus) || [data.selected.row, data.selected.column];
  const setFocus = ([row, column], reveal) => {
    if (store.focused) store.focused.tabIndex = -1;
    store.focus = [
      Math.min(Math.max(row, 0), lastRow),
      Math.min(Math.max(column, 0), lastColumn),
    ];
    store.focused = cells[store.focus[0]][store.focus[1]];
    store.focused.tabIndex = 0;
    if (reveal) store.focused.focus();
  };
  setFocus(focus, hadFocus && samePrompt);
  // The chosen column is what the page talks about, so a narrow screen begins there.
  if (!samePrompt) {
    const at = cells[store.focus[0]][Math.max(data.selected.column, 0)];
    scroller.scrollLeft = at.offsetLeft + at.offsetWidth - scroller.clientWidth + 8;
  }
  store.prompt = data.prompt;

  const cellOf = (event) => event.target.closest?.(".cell");
  const choose = (node) => {
    const chosen = { row: +node.dataset.row, column: +node.dataset.column };
    setFocus([chosen.row, chosen.column], false);
    markSelected(grid, cells, chosen);
    setTriggerValue("chosen", { row: data.rows[chosen.row].row, column: chosen.column });
  };
  const showTip = (node) => {
    fillTip(tip, data, +node.dataset.row, +node.dataset.column);
    placeTip(tip, node);
  };

  grid.onclick = (event) => {
    const node = cellOf(event);
    if (node) choose(node);
  };
  grid.onpointerover = (event) => {
    const node = cellOf(event);
    if (node && event.pointerType === "mouse") showTip(node);
  };
  grid.onpointerleave = () => {
    tip.hidden = true;
  };
  grid.onfocusin = (event) => {
    const node = cellOf(event);
    if (node && node.matches(":focus-visible")) showTip(node);
  };
  grid.onfocusout = () => {
    tip.hidden = true;
  };
  scroller.onscroll = () => {
    tip.hidden = true;
  };
  grid.onkeydown = (event) => {
    const node = cellOf(event);
    if (!node) return;
    if (event.key === "Enter" || event.key === " ") choose(node);
    else if (event.key === "Escape") tip.hidden = true;
    else {
      const from = [+node.dataset.row, +node.dataset.column];
      const to = moved(event.key, ...from, lastRow, lastColumn, data.flip ? -1 : 1);
      if (!to) return;
      setFocus(to, true);
    }
    event.preventDefault();
  };

  root.dataset.prompt = data.prompt;
  readyAfterPaint(root);
  return () => {
    stores.delete(parentElement);
  };
}
