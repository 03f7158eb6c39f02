"""What the page of a conversion adds to the report's style sheet."""

from solov2_edge.demos.report_style import STYLE

__all__ = ["CONVERSION_STYLE"]

# The two colours of the disagreements are those that demos/compare.py draws with.
CONVERSION_STYLE = (
    STYLE
    + """
.tile b { overflow-wrap: anywhere; }
td { vertical-align: top; }
details { border-top: 1px solid var(--line); }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .7rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline; }
summary::before { content: "+"; color: var(--accent); font-weight: 650; width: .8rem; }
details[open] > summary::before { content: "\\2212"; }
summary::-webkit-details-marker { display: none; }
summary b { font-weight: 620; flex: 0 0 10rem; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.marks { display: flex; flex-wrap: wrap; gap: .1rem 1rem; color: var(--soft); font-size: .86rem; }
.marks .good, .marks .bad { font-weight: 550; }
details > .card, details > .apart { margin-bottom: 1.1rem; }
.said { color: var(--soft); margin: 0 0 .8rem; font-size: .94rem; max-width: 46rem; }
.quantities td { padding-top: .38rem; padding-bottom: .38rem; font-size: .9rem; }
.apart { flex: none; margin: .2rem 0 1.2rem; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: .7rem; }
.panels img { display: block; width: 100%; height: auto; border-radius: 10px; box-shadow: 0 0 0 1px var(--line); }
.panels span { color: var(--soft); font-size: .84rem; }
figcaption i { display: inline-block; width: .75em; height: .75em; border-radius: 3px; margin-right: .35em; }
figcaption .first { background: rgb(213, 94, 0); } figcaption .second { background: rgb(86, 180, 233); }
.forest, .plot { display: grid; grid-template-columns: minmax(6.6rem, 9.5rem) 1fr 4.6rem; gap: .4rem 1rem;
  align-items: center; padding: .42rem 0; font-size: .94rem; }
.plot.layer { grid-template-columns: minmax(8rem, 20rem) 1fr 10.5rem; }
.plot > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.forest em, .plot em { font-style: normal; text-align: right; }
.plot em small { display: block; color: var(--soft); font-size: .8rem; line-height: 1.2; }
.bar > span.beyond { mask: linear-gradient(90deg, #000 82%, #0000); }
.axis { position: relative; height: 1.3rem; }
.axis > span { position: absolute; top: 50%; height: 3px; margin-top: -1.5px; border-radius: 2px;
  background: var(--net); }
.axis > b { position: absolute; top: 50%; width: 11px; height: 11px; margin: -5.5px 0 0 -5.5px; border-radius: 50%;
  background: var(--net); box-shadow: 0 0 0 2px var(--card); }
.axis > b.over { background: var(--bad); }
.axis > u { position: absolute; top: -.45rem; bottom: -.45rem; width: 1px; background: var(--soft); }
.axis > u.allowed { width: 2px; background: var(--bad); }
.ticks { padding: 0 0 .35rem; } .ticks .axis { height: 1.1rem; }
.ticks i { position: absolute; transform: translateX(-50%); font-style: normal; font-size: .8rem; color: var(--soft); }
.warning { border-color: var(--bad); }
@media (max-width: 560px) {
  thead { display: none; }
  tr:first-child { display: grid; }
  tr { grid-template-columns: repeat(3, 1fr); }
  td:last-child { grid-column: auto; }
  .quantities td:first-child { grid-column: 1 / 3; }
  .quantities td:last-child { grid-area: 1 / 3; text-align: right; }
  .quantities td { overflow-wrap: anywhere; white-space: normal; }
  .panels { grid-template-columns: 1fr; }
  .forest { grid-template-columns: 5.6rem 1fr 3rem; gap: .6rem; }
  .plot, .plot.layer { grid-template-columns: 1fr 5.6rem; gap: .1rem 1rem; }
  .plot > span { grid-column: 1 / -1; }
  summary b { flex-basis: calc(100% - 2rem); } .marks { padding-left: 1.8rem; }
}
@media print { details > * { display: block; } }
"""
)
