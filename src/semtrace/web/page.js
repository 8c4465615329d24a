// Where the live view is reached: beside this page, whatever port or proxy it came through.
const place = new URL("ws", window.location.href);
place.protocol = place.protocol.replace("http", "ws");
document.getElementById("terminal").dataset.sessionWebsocketUrl = place.href;
document.getElementById("again").addEventListener("click", () => window.location.reload());

// Keys go to the view at once, without a click first. textual.js marks the body when the view is connected.
new MutationObserver((changes, observer) => {
  if (document.body.classList.contains("-loaded")) {
    observer.disconnect();
    document.querySelector(".xterm-helper-textarea").focus();
  }
}).observe(document.body, { attributes: true });
