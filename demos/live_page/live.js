// The live view in a page: draws the pictures the program sends, tells it what it has drawn and what to change.
import { say, show, start } from "./panel.js";

const canvas = document.getElementById("picture");
const context = canvas.getContext("2d");
const PATIENCE = [500, 1000, 2000, 4000, 8000]; // milliseconds between attempts to connect
let socket = null;
let attempts = 0;
let expected = 0; // number of the picture that comes next
let drawing = Promise.resolve();

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  socket = new WebSocket(new URL("live", location.href).href.replace(/^http/, "ws"));
  socket.onopen = () => {
    attempts = 0;
    send({ watching: !document.hidden });
  };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return heard(JSON.parse(data));
    const number = expected;
    drawing = drawing.then(() => draw(data, number));
  };
  socket.onclose = ({ code }) => {
    const over = code === 1001;
    say("bad", over ? "ended" : "not connected", over ? "The live view has ended" : lost());
    setTimeout(connect, PATIENCE[Math.min(attempts++, PATIENCE.length - 1)]);
  };
}

function lost() {
  return attempts < 3
    ? "Connection lost, trying again"
    : "No answer: the program has ended, or this address has no access";
}

function heard(message) {
  if (message.kind === "hello") start(message, (changes) => send({ set: changes }));
  else if (message.kind === "state") {
    if (message.picture) expected = message.number;
    show(message);
  } else if (message.kind === "refused") say("bad", "refused", message.message);
}

async function draw(blob, number) {
  try {
    const picture = await createImageBitmap(blob);
    await new Promise(requestAnimationFrame); // never faster than the screen
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
    }
    context.drawImage(picture, 0, 0);
    picture.close();
    canvas.dataset.number = number;
  } catch (error) {
    console.error(`picture ${number} cannot be drawn:`, error);
  }
  send({ seen: number });
}

// The token has become a cookie; it need not stay in the address bar and the history.
if (location.search) history.replaceState(null, "", location.pathname);
document.addEventListener("visibilitychange", () => send({ watching: !document.hidden }));
const full = document.getElementById("full");
full.hidden = !document.fullscreenEnabled;
full.onclick = () =>
  document.fullscreenElement ? document.exitFullscreen() : document.getElementById("screen").requestFullscreen();
connect();
