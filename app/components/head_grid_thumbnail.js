// One head's thumbnail: a matrix of one pixel an edge, or lines from destinations to sources.

const LINE_SIDE = 120; // canvas pixels
const LEAST_LINE = 0.04; // a weaker line would not be seen

function levelsOf(data, prompt, head) {
  const { pixels, bytes } = prompt;
  const start = head * edgeAt(pixels, 0);
  return (dest, src) => bytes[start + edgeAt(dest, src)];
}

function paintLines(canvas, size, levelAt, color) {
  canvas.width = LINE_SIDE;
  canvas.height = LINE_SIDE;
  const context = canvas.getContext("2d");
  context.strokeStyle = color;
  const y = (token) => ((token + 0.5) / size) * LINE_SIDE;
  for (let dest = 0; dest < size; dest += 1) {
    for (let src = 0; src <= dest; src += 1) {
      const weight = weightOf(levelAt(dest, src));
      if (weight < LEAST_LINE) continue;
      context.globalAlpha = weight;
      context.beginPath();
      context.moveTo(0, y(dest));
      context.lineTo(LINE_SIDE, y(src));
      context.stroke();
    }
  }
}

function paintThumbnail(canvas, data, prompt, head, paint) {
  const levelAt = levelsOf(data, prompt, head);
  if (paint.lines) paintLines(canvas, prompt.pixels, levelAt, paint.color);
  else paintTriangle(canvas, prompt.pixels, levelAt, paint.table);
  canvas.classList.toggle("lines", paint.lines);
}

function thumbnails(data, head, paint) {
  return data.prompts.map((prompt) => {
    const canvas = element("canvas", "thumbnail");
    paintThumbnail(canvas, data, prompt, head, paint);
    return canvas;
  });
}

// Mean weight of three simple places to look at; unknown where a pixel stands for several tokens.
function sharesOf(data, prompt, head) {
  if (data.kind !== "pattern" || prompt.pixels !== prompt.tokens.length) return null;
  if (prompt.pixels < 2) return null;
  const levelAt = levelsOf(data, prompt, head);
  const sums = [0, 0, 0];
  for (let dest = 1; dest < prompt.pixels; dest += 1) {
    [0, dest - 1, dest].forEach((src, place) => {
      sums[place] += weightOf(levelAt(dest, src));
    });
  }
  const [first, previous, itself] = sums.map((sum) => sum / (prompt.pixels - 1));
  return { first, previous, itself };
}
