// The numbers beside the picture.

const STAGES = ["preprocess", "network", "decode", "draw"];

/** The element with this id. */
export function element(id) {
  return document.getElementById(id);
}

/** Show milliseconds per stage as bars of one scale. */
export function showTimes(timings) {
  const total = STAGES.reduce((sum, stage) => sum + timings[stage], 0);
  const rows = STAGES.flatMap((stage) => {
    const [name, bar, value] = ["dt", "div", "dd"].map((tag) => document.createElement(tag));
    name.textContent = stage;
    bar.className = "bar";
    const length = document.createElement("i");
    length.style.width = `${(100 * timings[stage]) / total}%`;
    length.style.background = `var(--${stage})`;
    bar.append(length);
    value.textContent = `${timings[stage].toFixed(1)} ms`;
    return [name, bar, value];
  });
  element("times").replaceChildren(...rows);
  element("total").textContent = `${total.toFixed(0)} ms`;
}

/** Show what the artefact is, from its manifest. */
export function showFacts({ manifest, bytes }, config) {
  const { spec, input, precision, weights_licence: licence } = manifest;
  const classes = spec.class_names.length === 1 ? spec.class_names[0] : `${spec.class_names.length} classes`;
  const facts = {
    File: decodeURIComponent(config.artefact.split("/").pop()),
    Size: `${(bytes / 1e6).toFixed(1)} MB`,
    Network: spec.name,
    Precision: precision,
    Input: `${input.height} × ${input.width}`,
    Finds: classes,
    Licence: licence,
  };
  const rows = Object.entries(facts).flatMap(([name, value]) => {
    const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, text.textContent] = [name, value];
    return [term, text];
  });
  element("facts").replaceChildren(...rows);
}
