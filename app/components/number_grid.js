// The grid of numbers. Drawn from `data` alone and anew on each change. Texts are set with
// textContent only: tokens are data.

const STRONGEST = 42; // percent of colour; beyond it the ink would be hard to read

function shareOf(cell) {
  return Math.round(Math.min(Math.abs(cell.shade), 1) * STRONGEST);
}

function drawHead(data) {
  const head = element("thead");
  const line = element("tr");
  line.append(element("td", "corner"));
  line.firstChild.style.cursor = "default";
  data.columns.forEach((label, at) => {
    const cell = element("th", data.places[at] === data.place ? "chosen" : "", label);
    cell.scope = "col";
    line.append(cell);
  });
  head.append(line);
  return head;
}

function drawCell(data, row, at) {
  const cell = data.cells[row][at];
  const node = element("td", "", cell.text);
  const here = row === data.row && data.places[at] === data.place;
  const chosen = data.ticked ? data.ticked[row][at] : here;
  const color = cell.shade < 0 ? data.minus : data.plus;
  const share = shareOf(cell);
  if (share) node.style.background = `color-mix(in srgb, ${color} ${share}%, transparent)`;
  node.classList.toggle("nil", cell.text === "0");
  node.classList.toggle("changed", cell.was !== null);
  node.setAttribute("role", "gridcell");
  node.setAttribute("aria-selected", String(chosen));
  const before = cell.was === null ? "" : `, before the change ${cell.was}`;
  node.setAttribute(
    "aria-label",
    `${data.rows[row]}, ${data.columns[at]}: ${cell.text}${before}`,
  );
  node.dataset.row = String(row);
  node.dataset.place = String(data.places[at]);
  node.tabIndex = -1;
  return node;
}

function drawTable(table, data) {
  table.replaceChildren(drawHead(data));
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", data.label);
  if (data.ticked) table.setAttribute("aria-multiselectable", "true");
  const body = element("tbody");
  const cells = data.rows.map((label, row) => {
    const line = element("tr");
    const head = element("th", row === data.row ? "chosen" : "", label);
    head.scope = "row";
    const nodes = data.columns.map((_, at) => drawCell(data, row, at));
    line.append(head, ...nodes);
    body.append(line);
    return nodes;
  });
  table.append(body);
  return cells;
}

function place(tip, node) {
  const box = node.getBoundingClientRect();
  tip.hidden = false;
  const size = tip.getBoundingClientRect();
  const below = box.bottom + 6 + size.height < window.innerHeight;
  const left = Math.min(box.left, window.innerWidth - size.width - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 6 : Math.max(8, box.top - size.height - 6)}px`;
}

// Brings the chosen cell into view inside its scroller, and leaves the page where it is.
function reveal(scroller, node) {
  const label = 90; // the row labels, which stay in place
  const left = node.offsetLeft - label;
  const right = node.offsetLeft + node.offsetWidth - scroller.clientWidth + 8;
  if (left < scroller.scrollLeft) scroller.scrollLeft = left;
  else if (right > scroller.scrollLeft) scroller.scrollLeft = right;
}

const STEPS = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  Home: [0, -1000],
  End: [0, 1000],
};

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".numbers");
  const table = root.querySelector("table");
  const tip = root.querySelector(".tip");
  const hadFocus = table.contains(parentElement.activeElement ?? null);
  root.dataset.ready = "false";
  tip.hidden = true;
  const cells = drawTable(table, data);
  const draw = () => numbersPicture(root, data);
  drawTools(root.querySelector(".tools"), { name: "numbers", withLink: true, draw });
  const start = Math.max(0, data.places.indexOf(data.place));
  let focus = [Math.min(Math.max(data.row, 0), cells.length - 1), start];

  const hide = () => {
    tip.hidden = true;
  };
  const show = (row, at) => {
    const cell = data.cells[row][at];
    tip.textContent = cell.was === null ? cell.note : `before the change: ${cell.was}\n${cell.note}`;
    place(tip, cells[row][at]);
  };
  const setFocus = (row, at) => {
    cells[focus[0]][focus[1]].tabIndex = -1;
    focus = [row, at];
    cells[row][at].tabIndex = 0;
  };
  const choose = (row, at) => {
    hide();
    setTriggerValue("chosen", { row, place: data.places[at] });
  };

  cells.forEach((line, row) =>
    line.forEach((node, at) => {
      node.onpointerenter = (event) => {
        if (event.pointerType === "mouse") show(row, at);
      };
      node.onpointerleave = hide;
      node.onfocus = () => {
        if (node.matches(":focus-visible")) show(row, at);
      };
      node.onblur = hide;
      node.onclick = () => {
        setFocus(row, at);
        choose(row, at);
      };
    }),
  );
  table.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(...focus);
      return;
    }
    if (event.key === "Escape") hide();
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const clamp = (value, size) => Math.min(Math.max(value, 0), size - 1);
    const row = clamp(focus[0] + step[0], cells.length);
    const at = clamp(focus[1] + step[1], cells[row].length);
    setFocus(row, at);
    cells[row][at].focus();
  };
  const scroller = root.querySelector(".scroller");
  scroller.onscroll = hide;
  if (data.place >= 0) reveal(scroller, cells[focus[0]][focus[1]]);
  setFocus(...focus);
  if (hadFocus) cells[focus[0]][focus[1]].focus();
  root.dataset.ready = "true";
}
