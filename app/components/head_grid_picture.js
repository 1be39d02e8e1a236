// The grid of heads as SVG: the thumbnails as images, their names as text.

function gridPicture(root, data, options, layout, cells) {
  const paper = paintOf(root, [], null);
  const [side, gap, room] = [76, 8, 56];
  const across = data.prompts.length * side + gap;
  const width = 44 + layout.columns * across;
  const height = room + Math.ceil(cells.length / layout.columns) * (side + 22);
  const svg = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  const style = `text{font:11px monospace;fill:${paper.ink}}image{image-rendering:pixelated}`;
  svg.append(shape("style", {}, style), shape("rect", { width, height, fill: paper.fill }));
  const order = options.order ? `, sorted by ${options.order}` : "";
  svg.append(shape("text", { x: 12, y: 24 }, `${data.title}: ${kindLabel(data.kind)}${order}`));
  cells.forEach((cell, place) => {
    const x = 12 + (place % layout.columns) * across;
    const y = room + Math.floor(place / layout.columns) * (side + 22);
    const head = +cell.dataset.head;
    const score = scoreNamed(data, options.order);
    const name = headName(Math.floor(head / data.heads), head % data.heads);
    const more = score ? ` ${writeScore(score.values[head])}` : "";
    svg.append(shape("text", { x, y: y - 4 }, name + more));
    cell.querySelectorAll("canvas").forEach((canvas, at) => {
      const box = { x: x + at * side, y, width: side - 2, height: side - 2 };
      svg.append(shape("image", { ...box, href: canvas.toDataURL() }));
    });
  });
  return svg;
}
