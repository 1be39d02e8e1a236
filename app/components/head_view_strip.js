// The prompt as a strip of tokens. Of the token under the pointer, or of the locked one, it shows
// both directions: what it looks at as the token's colour, what looks at it as a bar below.

const SHOWN_IN_TIP = 6;

function drawStrip(strip, data, edges, act) {
  const line = element("div", "strip-line");
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", "The prompt's tokens. Enter locks one, Escape lets it go.");
  const tokens = [];
  for (let token = edges.first; token < edges.size; token += 1) {
    const node = element("button", "token mono");
    node.type = "button";
    node.append(element("span", "token-text", data.tokens[token]), element("span", "token-bar"));
    node.setAttribute("aria-label", `token ${token}: ${data.tokens[token]}`);
    node.dataset.token = String(token);
    tokens.push(node);
  }
  line.append(...tokens);
  strip.replaceChildren(element("div", "strip-key"), line);
  const focus = rovingFocus(tokens, Math.max(0, data.selected.dest - edges.first));
  const tokenOf = (event) => event.target.closest?.(".token");
  line.onclick = (event) => {
    const node = tokenOf(event);
    if (!node) return;
    focus(tokens.indexOf(node), false);
    act.lock(+node.dataset.token);
  };
  line.onpointerover = (event) => {
    const node = tokenOf(event);
    if (node && event.pointerType === "mouse") act.hover(+node.dataset.token, node);
  };
  line.onpointerleave = () => act.leave();
  line.onfocusin = (event) => {
    const node = tokenOf(event);
    if (node?.matches(":focus-visible")) act.hover(+node.dataset.token, node);
  };
  line.onfocusout = () => act.leave();
  line.onkeydown = (event) => {
    const node = tokenOf(event);
    const at = tokens.indexOf(node);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tokens.length - 1 };
    if (event.key === "Escape") act.release();
    if (!(event.key in to)) return;
    focus(to[event.key]);
    event.preventDefault();
  };
  return tokens;
}

function paintStrip(host, strip, tokens, view, token, locked) {
  const { data, edges, ramp, second } = view;
  tokens.forEach((node) => {
    const other = +node.dataset.token;
    const level = other <= token ? levelAtEdge(data, edges, token, other) : -1;
    const { fill, ink } = paintOf(host, ramp, level < 0 ? null : level / 255);
    node.style.backgroundColor = level < 0 ? "" : fill;
    node.style.color = level < 0 ? "" : ink;
    const back = other >= token && !edges.signed && edges.shown(other, token);
    const weight = back ? edges.value(other, token) / data.top : 0;
    const bar = node.querySelector(".token-bar");
    bar.style.width = `${100 * Math.sqrt(Math.min(Math.max(weight, 0), 1))}%`;
    bar.style.backgroundColor = second;
    node.classList.toggle("shown", other === token);
    node.setAttribute("aria-pressed", String(locked && other === token));
  });
  const key = strip.querySelector(".strip-key");
  const name = element("span", "mono", data.tokens[token]);
  const rule = element("span", "token-bar sample");
  rule.style.backgroundColor = second;
  key.replaceChildren("Colour: what ", name, " looks at.");
  if (!edges.signed) key.append(" Bar ", rule, " : what looks at it.");
  key.append(locked ? " Locked; Escape or a second click lets it go." : " A click locks a token.");
}

// The tip of a token: the strongest edges in both directions, and the model's guess there.
function fillTokenTip(tip, data, edges, token) {
  tip.replaceChildren();
  [true, false].forEach((from) => {
    const head = element("div", "tip-head");
    const name = element("span", "mono", data.tokens[token]);
    if (from) head.append(name, " looks at");
    else head.append("Who looks at ", name);
    tip.append(head, tipRows(data, strongest(edges, token, from, SHOWN_IN_TIP)));
  });
  tip.append(...guessNote(data, token));
}

function fillEdgeTip(tip, data, edges, dest, src) {
  const head = element("div", "tip-head");
  const value = writeValue(data.kind, edges.value(dest, src));
  head.append(element("span", "mono", data.tokens[dest]), " looks at ");
  head.append(element("span", "mono", data.tokens[src]), ": ", element("strong", "", value));
  tip.replaceChildren(head, tipRows(data, strongest(edges, dest, true, SHOWN_IN_TIP)));
  tip.append(...guessNote(data, dest));
}

function tipRows(data, found) {
  const rows = element("div", "tip-rows");
  found.forEach(({ other, value }) => {
    const track = element("span", "tip-track");
    const bar = element("span", "tip-bar");
    bar.style.width = `${100 * Math.min(Math.abs(value) / data.top, 1)}%`;
    track.append(bar);
    const number = element("span", "mono tip-number", writeValue(data.kind, value));
    rows.append(element("span", "mono tip-token", data.tokens[other]), track, number);
  });
  return rows;
}

function guessNote(data, token) {
  if (data.next[token] === undefined) return [];
  const note = element("div", "tip-note");
  note.append("Next, the model says ", element("span", "mono", data.next[token]));
  note.append(` (${percent(data.nextProb[token] ?? 0)})`);
  return [note];
}
