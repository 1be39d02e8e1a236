// A component as a picture: its SVG (the DOM escapes every text), saved as it is or painted onto a
// canvas for PNG. Also the link to the page as it is.

const SVG = "http://www.w3.org/2000/svg";
const PIXELS_PER_UNIT = 2;

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, String(value)));
  if (text !== undefined) node.textContent = text;
  return node;
}

function fitted(text, most) {
  const letters = [...text];
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
}

function save(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function savePicture(svg, kind, name) {
  const text = new XMLSerializer().serializeToString(svg);
  const drawn = new Blob([text], { type: "image/svg+xml" });
  if (kind === "svg") return save(drawn, `${name}.svg`);
  const image = new Image();
  image.onload = () => {
    const canvas = element("canvas");
    canvas.width = PIXELS_PER_UNIT * svg.getAttribute("width");
    canvas.height = PIXELS_PER_UNIT * svg.getAttribute("height");
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(blob, `${name}.png`), "image/png");
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  return undefined;
}

// Without a secure connection there is no clipboard; then the link is shown to be copied by hand.
async function copyLink(button, field) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Link copied";
  } catch {
    field.hidden = false;
    field.value = location.href;
    field.select();
    button.textContent = "Copy it here:";
  }
  setTimeout(() => {
    button.textContent = said;
  }, 3000);
}

// `draw` gives the picture as SVG; it is called when a button is pressed and not before.
function drawTools(tools, { name, withLink, draw }) {
  tools.replaceChildren();
  const field = element("input", "tool-link");
  field.readOnly = true;
  field.hidden = true;
  field.setAttribute("aria-label", "Link to this view");
  const add = (label, act) => {
    const button = element("button", "tool", label);
    button.type = "button";
    button.onclick = () => act(button);
    tools.append(button);
  };
  if (withLink) add("Copy link", (button) => copyLink(button, field));
  add("Picture (SVG)", () => savePicture(draw(), "svg", name));
  add("Picture (PNG)", () => savePicture(draw(), "png", name));
  tools.append(field);
}
