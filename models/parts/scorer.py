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
        """Return outputs [batch, n_outputs]; the head sees each row's text, its windows together, or only its span."""
        states = self.backbone(batch.input_ids, batch.attention_mask, batch.segments, n_states=self.head.n_states)
        mask = batch.attention_mask
        places = None
        if batch.spans is not None:
            places, mask = span_places(batch.spans)
        elif batch.windows is not None:
            places, mask = window_places(batch.windows, mask)
        if places is not None:
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


def window_places(windows: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Turn the row of each text [texts] into an index of hidden states [texts, tokens, hidden], window after window.

    `mask` [texts, tokens] is that of the texts. The index gives [batch, most tokens of a row, hidden]; the mask beside
    it is [batch, most tokens].
    """
    text, token = mask.nonzero(as_tuple=True)
    row = windows[text]
    counts = torch.bincount(row)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    index = mask.new_zeros(3, len(counts), int(counts.max()))
    index[:, row, place] = torch.stack([text, token, torch.ones_like(text)])
    return (index[0], index[1]), index[2]
