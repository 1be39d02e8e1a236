// The head as SVG: the matrix as an image with its tokens as text, or the lines as they are.

function headPicture(root, view, options) {
  const svg = root.querySelector(".lines-field")
    ? linesPicture(root, view, options)
    : matrixPicture(root, view, options);
  const { data } = view;
  const title = `${data.title}, ${headName(data.layer, data.head)}: ${kindLabel(data.kind)}`;
  svg.append(shape("text", { x: 12, y: 22, style: "font-weight:600" }, title));
  return svg;
}

function pictureFrame(root, width, height) {
  const paper = paintOf(root, [], null);
  const svg = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  const style = `text{font:11px monospace;fill:${paper.ink}}image{image-rendering:pixelated}`;
  svg.append(shape("style", {}, style), shape("rect", { width, height, fill: paper.fill }));
  return svg;
}

function matrixPicture(root, { data, edges }, options) {
  const [cell, left, above] = [14, 110, 130];
  const side = (edges.size - edges.first) * cell;
  const svg = pictureFrame(root, left + side + 20, above + side + 20);
  const canvas = root.querySelector("canvas.picture");
  const box = { x: left, y: above, width: side, height: side };
  svg.append(shape("image", { ...box, href: canvas.toDataURL() }));
  data.tokens.slice(edges.first).forEach((token, at) => {
    const middle = (at + 0.5) * cell + 4;
    const row = { x: left - 6, y: above + middle, "text-anchor": "end" };
    const turned = `translate(${left + middle} ${above - 6}) rotate(-90)`;
    svg.append(shape("text", row, fitted(token, 14)));
    svg.append(shape("text", { transform: turned }, fitted(token, 12)));
  });
  const axes = options.swap ? ["source ↓", "destination →"] : ["destination ↓", "source →"];
  axes.forEach((text, at) => svg.append(shape("text", { x: 12, y: 48 + 16 * at }, text)));
  return svg;
}

function linesPicture(root, { data, edges }, options) {
  const [left, above, across] = [130, 64, 240];
  const height = (edges.size - edges.first) * LINE_HEIGHT;
  const svg = pictureFrame(root, 2 * left + across, above + height + 16);
  const stretch = { transform: `translate(${left} ${above}) scale(${across / 100} 1)` };
  const lines = shape("g", { ...stretch, "stroke-width": 2.5 });
  root.querySelectorAll(".line-shapes line").forEach((line) => lines.append(line.cloneNode()));
  svg.append(lines);
  data.tokens.slice(edges.first).forEach((token, at) => {
    const y = above + (at + 0.5) * LINE_HEIGHT + 4;
    svg.append(shape("text", { x: left - 8, y, "text-anchor": "end" }, fitted(token, 16)));
    svg.append(shape("text", { x: left + across + 8, y }, fitted(token, 16)));
  });
  const names = options.swap ? ["source", "destination"] : ["destination", "source"];
  svg.append(shape("text", { x: left - 8, y: above - 8, "text-anchor": "end" }, names[0]));
  svg.append(shape("text", { x: left + across + 8, y: above - 8 }, names[1]));
  return svg;
}
