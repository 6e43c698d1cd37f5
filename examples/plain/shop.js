const chat = document.querySelector("mlc-chat");
chat.starters = ["What is 17 + 25?", "What is the capital of France?"];
chat.addEventListener("error", ({ detail }) => console.error(detail.code, detail.message));
