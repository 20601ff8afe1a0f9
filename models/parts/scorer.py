"""`Scorer`: a backbone with a head on it."""

import torch
from torch import Tensor, nn

from models.backbones.encoder import Encoder
from models.parts.heads import Head
from models.text.batches import Batch


class Scorer(nn.Module):
    """A batch in, outputs out: what a loss judges and an optimizer changes."""

    def __init__(self, backbone: Encoder, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs [batch, n_outputs]; the head sees each row's text or, where there are spans, its span only."""
        states = self.backbone(batch.input_ids, batch.attention_mask, batch.segments, n_states=self.head.n_states)
        mask = batch.attention_mask
        if batch.spans is not None:
            places, mask = span_places(batch.spans)
            states = tuple(state[places] for state in states)
        outputs: Tensor = self.head(states, mask, batch.codes)
        return outputs


def span_places(spans: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Turn spans [batch, 3] (text, first token, tokens) into an index of hidden states [texts, tokens, hidden].

    The index gives [batch, longest span, hidden]; the mask beside it is [batch, longest span].
    """
    text, start, length = spans.unsqueeze(-1).unbind(dim=1)
    steps = torch.arange(int(length.max()), device=spans.device)
    mask = steps < length
    return (text, torch.where(mask, start + steps, start)), mask.long()
