"""Train a small network on handwritten digits (or, without scikit-learn, on drawn ones) and log
it all: hyperparameters, metrics, text, images and a summary. Needs NumPy and Pillow.

    pip install 'runicorn[viewer,image]' scikit-learn
    python examples/quickstart_demo.py
    runicorn viewer
"""

from __future__ import annotations

import argparse

import numpy as np

import runicorn as rn

SIDE = 8  # pixels


def digits(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images of 8 x 8 pixels from 0 to 1, one per row, and which of ten classes they show."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        patterns = random.random((10, SIDE * SIDE)) > 0.6
        labels = random.integers(0, 10, 1800)
        noise = random.normal(0, 1, (len(labels), SIDE * SIDE))
        return np.clip(patterns[labels] + noise, 0, 1), labels
    data = load_digits()
    return data.data / 16, data.target


class Network:
    """One hidden layer of rectified units, trained by stochastic gradient descent."""

    def __init__(self, hidden: int, random: np.random.Generator) -> None:
        self.w1 = random.normal(0, (2 / (SIDE * SIDE)) ** 0.5, (SIDE * SIDE, hidden))
        self.w2 = random.normal(0, (2 / hidden) ** 0.5, (hidden, 10))
        self.b1, self.b2 = np.zeros(hidden), np.zeros(10)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The hidden activations and the probability of each class."""
        hidden = np.maximum(x @ self.w1 + self.b1, 0)
        scores = hidden @ self.w2 + self.b2
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, odds / odds.sum(axis=1, keepdims=True)

    def learn(self, x: np.ndarray, y: np.ndarray, rate: float) -> float:
        """One step on a batch; returns its mean cross-entropy before the step."""
        hidden, chances = self.forward(x)
        loss = -np.log(chances[np.arange(len(y)), y] + 1e-12).mean()
        error = chances.copy()
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        back = (error @ self.w2.T) * (hidden > 0)
        self.w2 -= rate * hidden.T @ error
        self.b2 -= rate * error.sum(axis=0)
        self.w1 -= rate * x.T @ back
        self.b1 -= rate * back.sum(axis=0)
        return float(loss)


def confusion(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Rows: the true class; columns: the guess; each row adds up to 1."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (truth, guess), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def enlarge(image: np.ndarray, times: int) -> np.ndarray:
    return np.kron(image, np.ones((times, times)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="storage root (default: as runicorn.init chooses)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    random = np.random.default_rng(args.seed)
    images, labels = digits(random)
    order = random.permutation(len(images))
    test, train = order[:400], order[400:]
    network = Network(args.hidden, random)

    run = rn.init("digits", args.storage, name="quickstart", config=args, capture_console=True)
    with run:
        print(f"Training on {len(train)} images, testing on {len(test)}: {run.run_dir}")
        rn.set_primary_metric("test_accuracy", "max")
        rn.log_image("samples", enlarge(np.hstack(images[:8].reshape(8, SIDE, SIDE)), 8))
        for epoch in range(1, args.epochs + 1):
            for batch in np.array_split(random.permutation(train), len(train) // args.batch_size):
                rn.log(loss=network.learn(images[batch], labels[batch], args.lr), stage="train")
            guess = network.forward(images[test])[1].argmax(axis=1)
            accuracy = (guess == labels[test]).mean()
            rn.log(test_accuracy=accuracy, epoch=epoch, stage="test")
            print(f"epoch {epoch:2}: {accuracy:.1%} of the test images are right")
        rn.log_image("confusion", enlarge(confusion(labels[test], guess), 16), caption="test set")
        rn.summary({"test_accuracy": accuracy, "parameters": network.w1.size + network.w2.size})


if __name__ == "__main__":
    main()
