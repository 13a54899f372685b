#include "report/page.h"

namespace octavo {

// Eight hues that stay apart for colour-blind readers, in a darker set for white paper and a
// lighter one for a dark screen. Lines take theirs from --c through the classes c0 to c7.
const std::string_view kPageStyle = R"css(
:root {
  --paper: #fdfdfc; --ink: #1b1d21; --muted: #5f6672; --grid: #e7e8ea; --axis: #9aa0a8;
  --mark: #fff1b8; --panel: #f4f5f5; --bad: #c01a2b;
  --c0: #1f5fbf; --c1: #d4550f; --c2: #12805a; --c3: #9036b5;
  --c4: #a87500; --c5: #0b849c; --c6: #c4306a; --c7: #565f6b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --ink: #e7e9ec; --muted: #a0a7b1; --grid: #2a2e34; --axis: #5d646e;
    --mark: #524511; --panel: #1d2025; --bad: #ff6b78;
    --c0: #6fa8ff; --c1: #ff9455; --c2: #4ecb98; --c3: #cb8ff2;
    --c4: #e2b545; --c5: #4cc7dc; --c6: #ff82b0; --c7: #b0b8c3;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 28px; line-height: 1.2; margin: 2px 0 4px; font-weight: 650;
  overflow-wrap: anywhere; }
h2, figcaption { font-size: 17px; font-weight: 650; margin: 0 0 4px; }
header p { margin: 0; color: var(--muted); }
.kicker { font-size: 13px; letter-spacing: .04em; }
.finding { margin: 14px 0 0; }
.finding + .finding { margin-top: 2px; }
.note, caption { color: var(--muted); font-size: 13px; text-align: left; }
.note { margin: 4px 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 24px 0 36px;
  font-variant-numeric: tabular-nums; border-top: 2px solid var(--ink);
  border-bottom: 2px solid var(--ink); }
caption { caption-side: bottom; padding-top: 6px; }
th, td { padding: 7px 10px; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 1px solid var(--axis); font-size: 13px; color: var(--muted); }
th:first-child { text-align: left; padding-left: 0; }
tr > :last-child { padding-right: 0; }
td small { display: block; color: var(--muted); font-size: 12px; }
.key { margin-right: 8px; vertical-align: -1px; }
.loss { margin-bottom: 32px; }
.loss h2 { float: left; margin-right: 18px; }
.loss input { position: absolute; opacity: 0; }
.loss label { display: inline-block; padding: 1px 11px; margin-left: -1px; cursor: pointer;
  border: 1px solid var(--axis); color: var(--muted); font-size: 13px; }
.loss label:first-of-type { border-radius: 5px 0 0 5px; }
.loss label:last-of-type { border-radius: 0 5px 5px 0; }
.loss input:checked + label { background: var(--ink); border-color: var(--ink);
  color: var(--paper); }
.loss input:focus-visible + label { outline: 2px solid var(--c0); outline-offset: 2px; }
.loss .scroll { display: none; }
#view-whole:checked ~ .view-whole, #view-log:checked ~ .view-log,
#view-half:checked ~ .view-half, #view-tokens:checked ~ .view-tokens,
#view-time:checked ~ .view-time { display: block; }
.legend { list-style: none; margin: 8px 0 6px; padding: 0; display: flex; flex-wrap: wrap;
  gap: 2px 22px; font-size: 14px; }
.grid-of-charts { display: grid; gap: 28px 20px; margin: 0 0 32px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; }
.chart { display: block; width: 100%; height: auto; font-size: 12px;
  font-variant-numeric: tabular-nums; touch-action: pan-x pan-y; }
.chart text { fill: var(--muted); }
.chart .end { fill: var(--c); font-size: 13px; font-weight: 600; }
.chart path { fill: none; }
.chart .grid { stroke: var(--grid); }
.chart .axis { stroke: var(--axis); }
.chart .bad { stroke: var(--bad); stroke-width: 1.8; }
.line { stroke: var(--c); stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
.faint { stroke: var(--c); stroke-width: 1; stroke-linejoin: bevel; opacity: .24; }
.faint ~ .faint { opacity: .15; }
.held { stroke: var(--c); stroke-width: 1; stroke-dasharray: 2 3; opacity: .8; }
.chart .mark *, .key .mark * { fill: var(--paper); stroke: var(--c); stroke-width: 1.6; }
.dot { fill: var(--c); }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.d0.line, .d0 .line { stroke-dasharray: 1 4; }
.d1.line, .d1 .line { stroke-dasharray: 7 4; }
.d2.line, .d2 .line { stroke-dasharray: 8 3 1 4; }
.memory { margin: 8px 0 32px; width: auto; }
.memory td { min-width: 130px; }
.memory tbody tr:last-child > * { border-top: 1px solid var(--axis); font-weight: 600; }
.bar { display: block; height: 4px; margin: 2px 0 0 auto; background: var(--c); }
h3 { font-size: 14px; font-weight: 600; margin: 14px 0 0; }
.sample { white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 4px; }
.samples { margin: 0 0 32px; }
.casts { margin: 0 0 28px; }
.heat { display: block; min-width: 640px; width: 100%; height: auto; margin: 10px 0 4px;
  font-size: 11px; font-variant-numeric: tabular-nums; }
.heat text { fill: var(--muted); }
.heat .role { fill: var(--ink); font-size: 13px; font-weight: 600; }
.heat rect { fill: var(--grid); }
.heat path { fill: none; stroke-width: 1; shape-rendering: crispEdges; }
.h0 { stroke: #261d57; } .h1 { stroke: #1f3070; } .h2 { stroke: #004684; } .h3 { stroke: #005d92; }
.h4 { stroke: #007598; } .h5 { stroke: #008b96; } .h6 { stroke: #009f8f; } .h7 { stroke: #0ab185; }
.h8 { stroke: #65bf7c; } .h9 { stroke: #9acb79; } .h10 { stroke: #c7d57f; } .h11 { stroke: #ede091; }
.hx { stroke: var(--bad); }
.guide { stroke: var(--axis); pointer-events: none; }
.tip { position: fixed; z-index: 1; pointer-events: none; padding: 5px 9px; border-radius: 5px;
  background: var(--ink); color: var(--paper); font-size: 12.5px; line-height: 1.45;
  white-space: pre; font-variant-numeric: tabular-nums; }
details { border-top: 1px solid var(--grid); padding: 8px 0; }
summary { cursor: pointer; }
pre { margin: 8px 0; padding: 12px 14px; overflow-x: auto; background: var(--panel);
  border-radius: 5px; font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
mark { background: var(--mark); color: inherit; }
@media (max-width: 640px) {
  main { padding: 20px 14px 40px; }
  h1 { font-size: 23px; }
  .loss h2 { float: none; }
  .loss .chart { min-width: 640px; font-size: 15px; }
  .loss .chart .end { font-size: 15px; }
}
@media print { .loss label, summary { display: none; } }
)css";

// Values under the pointer, read back from the drawn lines, so that the page carries no data twice.
const std::string_view kPageScript = R"js(
for (const svg of document.querySelectorAll('svg.chart')) {
  // A title element would show its own tooltip over ours.
  const title = svg.querySelector('title');
  svg.setAttribute('aria-label', title.textContent);
  svg.removeAttribute('aria-labelledby');
  title.remove();
  const numbers = name => svg.dataset[name].split(' ').map(Number);
  const [left, top, width, height] = numbers('box');
  const value = ([lo, hi, log], part) =>
    log ? lo * (hi / lo) ** part : lo + (hi - lo) * part;
  let curves, guide, tip;
  const read = () => [...svg.querySelectorAll('.line')].map(path => ({
    name: path.dataset.name,
    pieces: path.getAttribute('d').split('M').slice(1).map(piece => {
      const n = piece.split(' ').map(Number);
      return n.flatMap((x, i) => i % 2 ? [] : [[x, n[i + 1]]]);
    })}));
  const height_at = (pieces, x) => {
    for (const p of pieces) {
      const i = p.findIndex(q => q[0] >= x);
      if (i == 0 && p[0][0] - x < 1) return p[0][1];
      if (i > 0) {
        const [[a, ya], [b, yb]] = [p[i - 1], p[i]];
        return b > a ? ya + (yb - ya) * (x - a) / (b - a) : yb;
      }
    }
  };
  const hide = () => { guide?.remove(); tip?.remove(); guide = tip = undefined; };
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('pointermove', event => {
    const point = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    if (point.x < left || point.x > left + width) return hide();
    curves ??= read();
    const at = value(numbers('x'), (point.x - left) / width), unit = svg.dataset.unit;
    const lines = [unit == 'step' ? 'step ' + Math.round(at)
                                  : Number(at.toPrecision(4)).toLocaleString('en') + ' ' + unit];
    for (const curve of curves) {
      const y = height_at(curve.pieces, point.x);
      if (y === undefined) continue;
      const shown = value(numbers('y'), 1 - (y - top) / height);
      lines.push(curve.name + '  ' + Number(shown.toPrecision(5)));
    }
    if (!guide) {
      guide = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      guide.setAttribute('class', 'guide');
      svg.append(guide);
      tip = document.createElement('div');
      tip.className = 'tip';
      document.body.append(tip);
    }
    guide.setAttribute('d', `M${point.x} ${top}v${height}`);
    tip.textContent = lines.join('\n');
    const space = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, space)) + 'px';
    tip.style.top = event.clientY + 16 + 'px';
  });
}
)js";

}  // namespace octavo
