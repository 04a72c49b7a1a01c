"""A client that went wrong: it trains as the others do and sends five times the opposite."""

from digits import Arrays, Digits

import fedloom

STRENGTH = 5


class Poisoned(Digits):
    def train(self, model: Arrays, context: fedloom.Round) -> fedloom.Update:
        before = {name: array.copy() for name, array in model.items()}
        update = super().train(model, context)
        lie = {
            name: before[name] - STRENGTH * (update.model[name] - before[name]) for name in before
        }
        return fedloom.Update(lie, update.num_examples, update.metrics, update.num_steps)


fedloom.main(Poisoned)
