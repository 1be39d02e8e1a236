// One head's matrix on a canvas, with the tokens at its edges and one cell that the keyboard moves.

const LABEL = 84; // pixels for the tokens at the side
const LEGIBLE = 11; // the least line that a token can be read on

// The whole matrix on one screen where its tokens stay legible; else it scrolls.
function cellSize(width, size) {
  const least = size > 64 ? 6 : LEGIBLE;
  const fits = Math.min(width - LABEL, 0.75 * innerHeight - LABEL) / size;
  return Math.min(Math.max(Math.floor(fits), least), 30);
}

function drawLabels(className, data, edges, cell) {
  const host = element("div", className);
  host.setAttribute("aria-hidden", "true");
  const every = Math.ceil(LEGIBLE / cell);
  for (let token = edges.first; token < edges.size; token += 1) {
    const label = element("span", "label mono", data.tokens[token]);
    label.classList.toggle("faint", (token - edges.first) % every !== 0);
    host.append(label);
  }
  return host;
}

function drawField(data, edges, swap) {
  const field = element("div", "field");
  const count = String(edges.size - edges.first);
  field.setAttribute("role", "grid");
  field.setAttribute("aria-rowcount", count);
  field.setAttribute("aria-colcount", count);
  const axes = swap ? "sources in rows, destinations in columns" : "destinations in rows";
  field.setAttribute(
    "aria-label",
    `${kindLabel(data.kind)} of block ${data.layer}, head ${data.head}: ${axes}. ` +
      "Arrow keys move, Enter selects an edge.",
  );
  field.tabIndex = 0;
  const row = element("div", "");
  row.setAttribute("role", "row");
  const cursor = element("div", "mark cursor");
  cursor.id = "cursor";
  cursor.setAttribute("role", "gridcell");
  row.append(cursor);
  field.setAttribute("aria-activedescendant", "cursor");
  field.append(element("canvas", "picture"), row, element("div", "mark chosen"));
  return field;
}

// Draws it and returns what the view needs: to mark the chosen edge.
function drawMatrix(stage, view, options, act) {
  const { data, edges } = view;
  const { swap } = options;
  const scroller = element("div", "scroller");
  const matrix = element("div", "matrix");
  stage.replaceChildren(scroller);
  scroller.append(matrix);
  const cell = cellSize(scroller.clientWidth, edges.size - edges.first);
  matrix.style.setProperty("--cell", `${cell}px`);
  matrix.style.setProperty("--size", String(edges.size - edges.first));
  const corner = element("div", "corner");
  corner.setAttribute("aria-hidden", "true");
  corner.append(element("span", "", `${swap ? "destination" : "source"} →`));
  corner.append(element("span", "", `${swap ? "source" : "destination"} ↓`));
  const columns = drawLabels("columns", data, edges, cell);
  const rows = drawLabels("rows", data, edges, cell);
  const field = drawField(data, edges, swap);
  matrix.append(corner, columns, rows, field);
  const levelAt = (dest, src) => levelAtEdge(data, edges, dest, src);
  paintTriangle(field.querySelector("canvas"), edges.size, levelAt, pixelTable(view.ramp), {
    first: edges.first,
    swap,
  });
  const marks = matrixMarks(field, rows, columns, view, swap);
  connectMatrix(field, view, options, marks, act);
  scroller.onscroll = () => act.hideTip();
  return marks.choose;
}

function matrixMarks(field, rows, columns, { data, edges }, swap) {
  const place = (node, dest, src) => {
    const [row, column] = swap ? [src, dest] : [dest, src];
    node.style.setProperty("--row", String(row - edges.first));
    node.style.setProperty("--column", String(column - edges.first));
    node.hidden = dest < edges.first || src < edges.first;
    return [row - edges.first, column - edges.first];
  };
  const cursor = field.querySelector(".cursor");
  const light = (row, column) => {
    field.parentElement.querySelectorAll(".lit").forEach((node) => node.classList.remove("lit"));
    rows.children[row]?.classList.add("lit");
    columns.children[column]?.classList.add("lit");
  };
  return {
    cursor,
    move(dest, src) {
      const [row, column] = place(cursor, dest, src);
      cursor.setAttribute("aria-rowindex", String(row + 1));
      cursor.setAttribute("aria-colindex", String(column + 1));
      cursor.setAttribute("aria-label", spokenEdge(data, edges, dest, src));
      light(row, column);
    },
    choose({ dest, src }) {
      const [row, column] = place(field.querySelector(".chosen"), dest, src);
      light(row, column);
    },
  };
}

function connectMatrix(field, { data, edges }, options, marks, act) {
  const lowest = (edge) => Math.max(edge, edges.first);
  let at = { dest: lowest(data.selected.dest), src: lowest(data.selected.src) };
  const go = (dest, src) => {
    at = { dest, src };
    marks.move(dest, src);
  };
  const edgeOf = (event) => {
    const box = field.getBoundingClientRect();
    const side = box.width / (edges.size - edges.first);
    const row = Math.floor((event.clientY - box.top) / side) + edges.first;
    const column = Math.floor((event.clientX - box.left) / side) + edges.first;
    const [dest, src] = options.swap ? [column, row] : [row, column];
    return src <= dest && src >= edges.first && dest < edges.size ? { dest, src } : null;
  };
  go(at.dest, Math.min(at.src, at.dest));
  field.onpointermove = (event) => {
    if (event.pointerType !== "mouse") return;
    const edge = edgeOf(event);
    if (!edge) return act.leave();
    if (edge.dest !== at.dest || edge.src !== at.src) go(edge.dest, edge.src);
    field.classList.add("pointed");
    return act.hoverEdge(edge, marks.cursor);
  };
  field.onpointerleave = () => {
    field.classList.remove("pointed");
    act.leave();
  };
  field.onclick = (event) => {
    const edge = edgeOf(event);
    if (!edge) return;
    go(edge.dest, edge.src);
    act.choose(edge.dest, edge.src);
  };
  field.onblur = () => act.leave();
  field.onkeydown = (event) => {
    if (event.key === "Escape") return act.release();
    if (event.key === "Enter" || event.key === " ") act.choose(at.dest, at.src);
    else {
      const from = options.swap ? [at.src, at.dest] : [at.dest, at.src];
      const to = moved(event.key, ...from, edges.size - 1, edges.size - 1, -1);
      if (!to) return undefined;
      const [dest, src] = options.swap ? [to[1], to[0]] : to;
      if (dest === at.dest) go(dest, Math.min(lowest(src), dest));
      else go(lowest(dest), Math.min(at.src, lowest(dest)));
      marks.cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
      act.hoverEdge(at, marks.cursor);
    }
    event.preventDefault();
    return undefined;
  };
}
