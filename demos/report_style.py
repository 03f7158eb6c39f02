"""The report's style sheet: light and dark, from a phone to a desk, no fonts or files from elsewhere."""

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f4; --card: #fff; --ink: #1b1f24; --soft: #5c6570; --line: #e3e4df;
  --accent: #0d7d74; --good: #17795b; --bad: #b3261e; --track: #ecede8;
  --pre: #d99a2b; --net: #0d8f84; --dec: #7a68c9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101316; --card: #181c20; --ink: #e9ecef; --soft: #98a2ad; --line: #2a3036;
    --accent: #4fd1c0; --good: #5fd6a4; --bad: #ff8a80; --track: #252b31;
    --pre: #e6b35a; --net: #35b8aa; --dec: #9d8ee6;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1160px; margin: 0 auto; padding: clamp(1.25rem, 4vw, 3.25rem) clamp(1rem, 4vw, 2.5rem) 4rem; }
.over { color: var(--accent); font-size: .82rem; font-weight: 650; letter-spacing: .04em; margin: 0 0 .5rem; }
h1 { font-size: clamp(1.75rem, 4.6vw, 2.9rem); line-height: 1.12; letter-spacing: -.022em; margin: 0; }
.lead { color: var(--soft); max-width: 46rem; margin: .75rem 0 0; font-size: 1.04rem; }
h2 { font-size: 1.18rem; letter-spacing: -.01em; margin: 0 0 .2rem; }
section { margin-top: 2.75rem; }
section > p { color: var(--soft); margin: 0 0 1.1rem; max-width: 46rem; }
.viewer { margin-top: 1.9rem; }
.viewer > input { position: absolute; opacity: 0; pointer-events: none; }
.switch { display: inline-flex; padding: 3px; border-radius: 999px; background: var(--track); margin-bottom: 1rem; }
.switch label {
  padding: .34rem 1rem; border-radius: 999px; cursor: pointer; color: var(--soft); font-size: .92rem; font-weight: 550;
  transition: background .15s, color .15s; user-select: none; white-space: nowrap;
}
#show-picture:checked ~ .switch [for=show-picture], #show-found:checked ~ .switch [for=show-found],
#show-annotated:checked ~ .switch [for=show-annotated] {
  background: var(--card); color: var(--ink); box-shadow: 0 1px 3px #0003;
}
.viewer > input:focus-visible ~ .switch { outline: 2px solid var(--accent); outline-offset: 2px; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: var(--aspect) 1 calc(var(--aspect) * 215px); min-width: 0; }
.frame {
  position: relative; aspect-ratio: var(--aspect); border-radius: 12px; overflow: hidden; background: #000;
  box-shadow: 0 0 0 1px var(--line), 0 10px 30px -18px #0009;
}
.frame img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; transition: opacity .25s; }
.frame .found, .frame .annotated { opacity: 0; }
#show-found:checked ~ .gallery .found, #show-annotated:checked ~ .gallery .annotated { opacity: 1; }
figcaption { padding: .6rem .1rem 0; font-size: .93rem; line-height: 1.42; }
figcaption b { display: block; font-weight: 620; }
figcaption span { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 158px), 1fr)); gap: .8rem; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: .95rem 1.1rem; }
.tile b { display: block; font-size: 1.72rem; line-height: 1.2; letter-spacing: -.02em; font-weight: 680; }
.tile b small { font-size: .95rem; font-weight: 560; color: var(--soft); letter-spacing: 0; }
.tile span { display: block; color: var(--soft); font-size: .88rem; line-height: 1.35; margin-top: .15rem; }
sup { line-height: 0; font-size: .68em; }
.card { padding: .4rem 1.15rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
th { color: var(--soft); font-weight: 550; font-size: .84rem; }
th, td { text-align: right; padding: .6rem 0 .6rem 1.1rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: 0; }
td small { display: block; color: var(--soft); font-size: .82rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.stage { display: grid; grid-template-columns: minmax(6.6rem, 8.5rem) 1fr; gap: .15rem 1rem; align-items: center;
  padding: .55rem 0; border-bottom: 1px solid var(--line); font-size: .94rem; }
.stage:last-child { border-bottom: 0; }
.stage .bars { display: grid; gap: .3rem; }
.scale { display: grid; grid-template-columns: 6.4rem 1fr 4.7rem; gap: .7rem; align-items: center; }
.scale i { font-style: normal; color: var(--soft); font-size: .84rem; }
.scale em { font-style: normal; text-align: right; font-size: .88rem; }
.bar { position: relative; height: 8px; border-radius: 4px; background: var(--track); }
.bar > span { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--net); }
.bar > span.over-bound { background: var(--bad); }
.bar > u { position: absolute; top: -4px; bottom: -4px; width: 2px; background: var(--ink); opacity: .65; }
.times { display: grid; grid-template-columns: minmax(6.6rem, 8.5rem) 1fr 4.2rem; gap: 1rem; align-items: center;
  padding: .6rem 0; border-bottom: 1px solid var(--line); font-size: .94rem; }
.times:last-of-type { border-bottom: 0; }
.times .stack { display: flex; height: 14px; border-radius: 5px; overflow: hidden; background: var(--track); }
.times em { font-style: normal; text-align: right; }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pre { background: var(--pre); } .net { background: var(--net); } .dec { background: var(--dec); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; color: var(--soft); font-size: .86rem; margin: .7rem 0 0; }
.legend span::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: 3px;
  margin-right: .45em; background: var(--dot); }
.notes { border-left: 3px solid var(--accent); padding: .1rem 0 .1rem 1rem; margin: 1.5rem 0 0; color: var(--soft); }
.notes p { margin: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .45rem 1.5rem; margin: .6rem 0; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.command { padding: .7rem 0; border-bottom: 1px solid var(--line); }
.command:last-child { border-bottom: 0; }
.command span { color: var(--soft); font-size: .9rem; }
.command code { display: block; overflow-x: auto; white-space: pre; padding: .2rem 0; }
@media (max-width: 560px) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; }
  .stage { grid-template-columns: 1fr; }
  .times { grid-template-columns: 1fr 4.2rem; } .times .stack { grid-row: 2; grid-column: 1 / -1; }
  .times { gap: .35rem 1rem; }
  .card { padding: .3rem .95rem; }
  table, tbody { display: block; } th { display: none; }
  tr { display: grid; grid-template-columns: repeat(4, 1fr); padding: .7rem 0; border-bottom: 1px solid var(--line); }
  tr:first-child { display: none; } tr:last-child { border-bottom: 0; }
  td { padding: .15rem 0; border: 0; text-align: left; }
  td[data-label]::before { content: attr(data-label); display: block; color: var(--soft); font-size: .78rem; }
  td:first-child, td:last-child { grid-column: 1 / -1; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media print { .switch { display: none; } body { background: #fff; } }
"""
