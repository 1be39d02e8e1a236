// The lens grid as SVG, drawn from the same data as the page.

const PICTURE = { cell: 84, line: 28, label: 92, head: 64, size: 12 };

function pictureCell(host, data, row, column, y, ramp) {
  const cell = cellAt(data, row, column);
  const { fill, ink } = paintOf(host, ramp, cell.shade);
  const x = PICTURE.label + column * PICTURE.cell;
  const group = shape("g", {});
  const box = { x: x + 1, y: y + 1, width: PICTURE.cell - 2, height: PICTURE.line - 2 };
  group.append(shape("rect", { ...box, fill }));
  if (cell.echo) group.append(shape("rect", { ...box, fill: "url(#echo)", color: ink }));
  if (cell.settled) {
    const inner = { x: x + 2, y: y + 2, width: PICTURE.cell - 4, height: PICTURE.line - 4 };
    group.append(shape("rect", { ...inner, fill: "none", stroke: ink, "stroke-width": 2 }));
  }
  const middle = { x: x + PICTURE.cell / 2, y: y + PICTURE.line / 2 + 4, "text-anchor": "middle" };
  const name = cell.differs ? `≠${cell.guesses[0].text}` : cell.guesses[0].text;
  group.append(shape("text", { ...middle, fill: ink, class: "m" }, fitted(name, 10)));
  return group;
}

function pictureOf(host, data, ramp) {
  const paper = paintOf(host, ramp, null);
  const width = PICTURE.label + data.tokens.length * PICTURE.cell + 12;
  const height = PICTURE.head + (data.rows.length + 1) * PICTURE.line + 16;
  const svg = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  const style = `text{font:${PICTURE.size}px serif;fill:${paper.ink}}.m{font-family:monospace}`;
  svg.append(shape("style", {}, style));
  const hatch = { id: "echo", width: 6, height: 6, patternUnits: "userSpaceOnUse" };
  const pattern = shape("pattern", { ...hatch, patternTransform: "rotate(45)" });
  pattern.append(shape("rect", { width: 1, height: 6, fill: "#808080" }));
  svg.append(pattern, shape("rect", { width, height, fill: paper.fill }));
  svg.append(shape("text", { x: 8, y: 20, "font-weight": 600 }, data.title));
  const unit = data.quantity.unit ? ` (${data.quantity.unit})` : "";
  const key = `${data.quantity.label}${unit}; outlined: already the final answer; hatched: echo`;
  svg.append(shape("text", { x: 8, y: 40 }, key));
  shownRows(data).forEach((row, place) => {
    const y = PICTURE.head + place * PICTURE.line;
    const at = { x: PICTURE.label - 8, y: y + PICTURE.line / 2 + 4, "text-anchor": "end" };
    svg.append(shape("text", { ...at, class: "m" }, data.rows[row].label));
    data.tokens.forEach((_, column) => svg.append(pictureCell(host, data, row, column, y, ramp)));
  });
  data.tokens.forEach((token, column) => {
    const x = PICTURE.label + (column + 0.5) * PICTURE.cell;
    const y = PICTURE.head + data.rows.length * PICTURE.line + 18;
    svg.append(shape("text", { x, y, "text-anchor": "middle", class: "m" }, fitted(token, 10)));
  });
  return svg;
}
