// The tip of one head: its picture larger, where it looks on average, its scores.

function fillHeadTip(tip, data, head, paint) {
  const [layer, inLayer] = [Math.floor(head / data.heads), head % data.heads];
  tip.replaceChildren(element("div", "tip-head", `Block ${layer}, head ${inLayer}`));
  const pictures = element("div", "tip-pictures");
  pictures.append(...thumbnails(data, head, paint));
  tip.append(pictures);
  const shares = sharesOf(data, data.prompts[0], head);
  const rows = element("div", "tip-rows");
  const add = (name, share, text) => {
    const track = element("span", share === null ? "" : "tip-track");
    if (share !== null) {
      const bar = element("span", "tip-bar");
      bar.style.width = `${100 * share}%`;
      track.append(bar);
    }
    rows.append(element("span", "", name), track, element("span", "mono tip-number", text));
  };
  if (shares) {
    add("to the first token", shares.first, percent(shares.first));
    add("to the previous one", shares.previous, percent(shares.previous));
    add("to itself", shares.itself, percent(shares.itself));
  }
  data.scores.forEach((score) => add(score.name, null, writeScore(score.values[head])));
  tip.append(rows);
}

function writeScore(value) {
  return value === null ? "–" : value.toFixed(2);
}

function spokenHead(data, head) {
  const place = `block ${Math.floor(head / data.heads)}, head ${head % data.heads}`;
  const shares = sharesOf(data, data.prompts[0], head);
  const looks = shares
    ? `; to the first token ${percent(shares.first)}, to the previous one ` +
      `${percent(shares.previous)}, to itself ${percent(shares.itself)}`
    : "";
  return place + looks;
}
