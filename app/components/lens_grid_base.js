// Shared by the parts of the lens grid: elements, colours, numbers, one cell's data. The parts are
// joined into one script in the order that lens_grid.py names; there is no build step.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Colours: the theme's ramps, read where the page defines them --------------------------------------

function channels(hex) {
  const digits = hex.trim().replace("#", "");
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function themeRamp(host, kind) {
  const listed = getComputedStyle(host).getPropertyValue(`--st-chart-${kind}-colors`);
  const colors = listed.split(",").filter((color) => /^\s*#[0-9a-f]{6}\s*$/i.test(color));
  return colors.length > 1 ? colors.map(channels) : [[255, 255, 255], [0, 0, 0]];
}

function mix(ramp, shade) {
  const place = Math.min(Math.max(shade, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[low].map((from, i) => Math.round(from + (ramp[low + 1][i] - from) * (place - low)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const c = value / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Black or white, whichever stands out more; the worse of the two is never below 4.5 to 1.
function inkOn(rgb) {
  const light = luminance(rgb) + 0.05;
  return 1.05 / light >= light / 0.05 ? "#ffffff" : "#000000";
}

// A cell's two colours; one that has no value (nothing follows the last token) is left blank.
function paintOf(host, ramp, shade) {
  if (shade !== null) {
    const rgb = mix(ramp, shade);
    return { fill: `rgb(${rgb.join(",")})`, ink: inkOn(rgb) };
  }
  const style = getComputedStyle(host);
  return {
    fill: style.getPropertyValue("--st-background-color").trim(),
    ink: style.getPropertyValue("--st-text-color").trim(),
  };
}

// Numbers ------------------------------------------------------------------------------------------

function percent(p) {
  if (p < 0.001) return "<0.1%";
  return (100 * p).toFixed(p < 0.1 ? 1 : 0) + "%";
}

// One cell's data out of the flat arrays ------------------------------------------------------------

function guessIds(data, row, column) {
  const at = (row * data.tokens.length + column) * data.k;
  return data.top.slice(at, at + data.k);
}

function cellAt(data, row, column) {
  const at = row * data.tokens.length + column;
  const ids = guessIds(data, row, column);
  return {
    guesses: ids.map((id, i) => ({
      id,
      text: data.vocab[id],
      prob: data.prob[at * data.k + i],
    })),
    shade: data.shade[at],
    value: data.value[at],
    rank: data.rank[at],
    bits: data.bits[at],
    kl: data.kl[at],
    norm: data.norm[at],
    settled: ids[0] === data.final[column],
    echo: ids[0] === data.read[column],
    follows: column + 1 < data.read.length && ids[0] === data.read[column + 1],
    // In a grid of differences: the first reading's best guess, where it is another one.
    was: data.other ? data.vocab[data.other[at]] : null,
    differs: data.other ? data.other[at] !== ids[0] : false,
    answer: data.vocab[data.final[column]],
  };
}

function spoken(data, row, column, cell) {
  const marks = [];
  if (cell.settled) marks.push("the final answer");
  if (cell.follows) marks.push("the true next token");
  if (cell.echo) marks.push("the token just read");
  if (cell.differs) marks.push(`the first reading has ${cell.was}`);
  return (
    `${data.rows[row].title}, at ${data.tokens[column]}: ${cell.guesses[0].text}, ` +
    `${percent(cell.guesses[0].prob)}${marks.map((mark) => ", " + mark).join("")}; ` +
    `${data.quantity.label} ${cell.value} ${data.quantity.unit}`.trim()
  );
}

// How a guess's place here compares with its place in the row below: "+2", "-1", "new" or "".
function rankChange(data, row, column, place) {
  if (row === 0) return "";
  const before = guessIds(data, row - 1, column).indexOf(guessIds(data, row, column)[place]);
  if (before < 0) return "new";
  if (before === place) return "";
  return before > place ? `↑${before - place}` : `↓${place - before}`;
}
