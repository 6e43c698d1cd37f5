"""What the real model is asked where its answers are compared."""

QUESTIONS = (
    "What is the capital of France?",
    "Who wrote Romeo and Juliet?",
    "What is the largest planet in the solar system?",
    "What gas do plants take in?",
    "Tell me a short story about a cat.",
    "Write a Python function that adds two numbers.",
    "What is 17 + 25?",
    "Translate to French: Good morning, my friend.",
    "List three primary colours.",
    "Why is the sky blue?",
    "Explain what a computer is to a child.",
    "How do I boil an egg?",
    "What is the difference between a frog and a toad?",
    "Write a haiku about autumn.",
    "Name five animals that live in the sea.",
    "What does HTTP stand for?",
    "Give me a recipe for pancakes.",
    "Who was Albert Einstein?",
    "¿Cuál es la capital de España?",
    "Summarize: The quick brown fox jumps over the lazy dog, and the dog does not mind.",
)


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]
