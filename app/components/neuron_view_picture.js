// The arithmetic of one edge as SVG, drawn from the same rows as the page.

function neuronPicture(root, data, rows, colors) {
  const paper = paintOf(root, [], null);
  const [left, above, across, high] = [120, 48, 10, 72];
  const width = left + rows[0].values.length * across + 16;
  const height = above + rows.length * (high + 10) + 28;
  const svg = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(shape("style", {}, `text{font:11px monospace;fill:${paper.ink}}`));
  svg.append(shape("rect", { width, height, fill: paper.fill }));
  const [dest, src] = [data.tokens[data.dest], data.tokens[data.src]];
  const title = `${headName(data.layer, data.head)}: ${dest} looks at ${src}`;
  svg.append(shape("text", { x: 12, y: 24, style: "font-weight:600" }, title));
  rows.forEach((row, place) => {
    const middle = above + place * (high + 10) + high / 2;
    svg.append(shape("text", { x: 12, y: middle }, row.name));
    svg.append(shape("text", { x: 12, y: middle + 14 }, fitted(row.of, 14)));
    row.values.forEach((value, at) => {
      const tall = ((high / 2) * Math.abs(value)) / row.top;
      const y = value < 0 ? middle : middle - tall;
      const box = { x: left + at * across, y, width: across - 2, height: tall };
      svg.append(shape("rect", { ...box, fill: value < 0 ? colors.minus : colors.plus }));
    });
  });
  const sum = `${sumText(data)}${data.score.toFixed(3)}, after the softmax ${weightText(data)}`;
  svg.append(shape("text", { x: 12, y: height - 14 }, sum));
  return svg;
}
