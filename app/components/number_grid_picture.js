// The grid of numbers as SVG, drawn from the same data as the page.

const PICTURE = { cell: 62, line: 28, label: 92, head: 70 };

// What CSS's color-mix gives, in figures, for programs that do not know it.
function tinted(paper, color, percent) {
  const from = channels(paper);
  const to = channels(color);
  const mixed = from.map((start, i) => Math.round(start + ((to[i] - start) * percent) / 100));
  return `rgb(${mixed.join(",")})`;
}

function pictureNumber(data, row, at, paper) {
  const cell = data.cells[row][at];
  const x = PICTURE.label + at * PICTURE.cell;
  const y = PICTURE.head + row * PICTURE.line;
  const box = { x: x + 1, y: y + 1, width: PICTURE.cell - 2, height: PICTURE.line - 2 };
  const fill = tinted(paper.fill, cell.shade < 0 ? data.minus : data.plus, shareOf(cell));
  const chosen = row === data.row && data.places[at] === data.place;
  const edge = chosen ? { stroke: paper.ink, "stroke-width": 2 } : {};
  const middle = { x: x + PICTURE.cell / 2, y: y + PICTURE.line / 2 + 4, "text-anchor": "middle" };
  const line = cell.was === null ? {} : { "text-decoration": "underline" };
  const group = shape("g", {});
  group.append(
    shape("rect", { ...box, ...edge, fill }),
    shape("text", { ...middle, ...line }, cell.text),
  );
  return group;
}

function numbersPicture(host, data) {
  const paper = paintOf(host, [], null);
  const width = PICTURE.label + data.columns.length * PICTURE.cell + 12;
  const height = PICTURE.head + data.rows.length * PICTURE.line + 12;
  const svg = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(shape("style", {}, `text{font:12px monospace;fill:${paper.ink}}`));
  svg.append(shape("rect", { width, height, fill: paper.fill }));
  svg.append(shape("text", { x: 8, y: 20, "font-weight": 600 }, data.title));
  data.columns.forEach((label, at) => {
    const x = PICTURE.label + (at + 0.5) * PICTURE.cell;
    // A column's name is words of a few letters, set below each other as on the page.
    const words = label.split(" ");
    words.forEach((word, i) => {
      const y = PICTURE.head - 8 - 13 * (words.length - 1 - i);
      svg.append(shape("text", { x, y, "text-anchor": "middle" }, fitted(word, 8)));
    });
  });
  data.rows.forEach((label, row) => {
    const y = PICTURE.head + row * PICTURE.line + PICTURE.line / 2 + 4;
    svg.append(shape("text", { x: PICTURE.label - 8, y, "text-anchor": "end" }, fitted(label, 11)));
    data.columns.forEach((_, at) => svg.append(pictureNumber(data, row, at, paper)));
  });
  return svg;
}
