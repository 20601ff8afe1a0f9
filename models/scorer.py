"""`Scorer`: a backbone with a head on it."""

import torch
from torch import Tensor, nn


class Scorer(nn.Module):
    """Token ids in, outputs out: what a loss judges and an optimiser moves."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, spans: Tensor | None = None) -> Tensor:
        """Return outputs [batch, n_outputs] for ids and mask [texts, tokens].

        The head sees each row's whole text or, where texts are shared, the tokens of its span only: `spans`
        [batch, 3] holds text, first token and number of tokens.
        """
        hidden = self.backbone(input_ids, attention_mask)
        if spans is not None:
            hidden, attention_mask = take_spans(hidden, spans)
        outputs: Tensor = self.head(hidden, attention_mask)
        return outputs


def take_spans(hidden: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the spans [batch, 3] out of `hidden` [texts, tokens, hidden].

    Returns:
        Hidden states [batch, longest span, hidden] and their mask [batch, longest span].
    """
    text, start, length = spans.unsqueeze(-1).unbind(dim=1)
    steps = torch.arange(int(length.max()), device=spans.device)
    mask = steps < length
    return hidden[text, torch.where(mask, start + steps, start)], mask.long()
