"""Small random models in the layouts of the published ones, so that neural metrics run without a
download.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from aacstudy.analysis.captions import assets
from aacstudy.corpus.text import tokenise


def make_models(root: Path, texts: Iterable[str]) -> Path:
    """A metrics folder with a sentence encoder and a fluency detector that know the words of the
    texts.
    """
    from aac_metrics.functional.fer import BERTFlatClassifier
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as parts
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    words = sorted({word for text in texts for word in tokenise(text)})
    root.mkdir(parents=True, exist_ok=True)
    (root / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    bert = root / "bert"
    config = BertConfig(
        vocab_size=len(words) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(bert)
    BertTokenizerFast(str(root / "vocab.txt")).save_pretrained(bert)
    snapshot = root / "huggingface" / f"models--{assets.SENTENCES.replace('/', '--')}" / "snapshots" / "one"
    first = parts.Transformer(str(bert))
    SentenceTransformer(modules=[first, parts.Pooling(32)], device="cpu").save(str(snapshot))
    detector = BERTFlatClassifier(str(bert), num_classes=6)
    detector.clf.weight.data[5] = 100 * torch.randn(32)  # sure of itself, one way or the other
    state = detector.state_dict() | {"encoder.embeddings.position_ids": torch.arange(512)[None]}
    (root / "fense_data").mkdir()
    torch.save(
        {"model_type": str(bert), "num_classes": 6, "state_dict": state}, root / "fense_data" / assets.FLUENCY
    )
    return root
