// Shared by the components: elements, colours, numbers, moves and tips. The parts of a component
// are joined into one script in the order that its Python side names; there is no build step.

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

// A legend's band of colours; a tick has a shade from 0 to 1 and a text.
function colorScale(label, ramp, ticks) {
  const scale = element("span", "legend-scale");
  const stops = ramp.map((rgb, i) => `rgb(${rgb.join(" ")}) ${(100 * i) / (ramp.length - 1)}%`);
  const band = element("span", "legend-band");
  band.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  scale.append(band);
  ticks.forEach((tick) => {
    const mark = element("span", "legend-tick mono", tick.text);
    mark.style.left = `${100 * tick.shade}%`;
    scale.append(mark);
  });
  return [element("span", "legend-label", label), scale];
}

// Numbers ------------------------------------------------------------------------------------------

function percent(p) {
  if (p < 0.001) return "<0.1%";
  return (100 * p).toFixed(p < 0.1 ? 1 : 0) + "%";
}

// The tip under or over a cell, and the keys that move between cells ---------------------------------

function placeTip(tip, target) {
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
  const above = box.top - height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above >= 8 ? above : Math.min(box.bottom + 8, innerHeight - height - 8)}px`;
}

function moved(key, row, column, lastRow, lastColumn, up) {
  const steps = {
    ArrowUp: [up, 0],
    ArrowDown: [-up, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -lastColumn],
    End: [0, lastColumn],
    PageUp: [up * lastRow, 0],
    PageDown: [-up * lastRow, 0],
  };
  if (!(key in steps)) return null;
  const clamp = (value, high) => Math.min(Math.max(value, 0), high);
  return [clamp(row + steps[key][0], lastRow), clamp(column + steps[key][1], lastColumn)];
}

// Two frames: the first lays out, the second is after the paint that a stopwatch should see.
function readyAfterPaint(root) {
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      root.dataset.ready = "true";
    }),
  );
}
