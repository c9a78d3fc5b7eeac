"""The table of the parameters: name, type, default, allowed values and meaning of each, in one place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SVM, DNN, SVM_ON_REFINED = "svm", "dnn", "svm_dnn_refined"  # values of `classifier`

Value = str | int | float | bool | list[float]

# A model of the Hugging Face Hub: hf/OWNER/NAME, perhaps with @REVISION (branch, tag or commit), and perhaps
# with #mean: its features are the mean of the patch tokens.
HUB_MODEL = re.compile(
    r"hf/(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w(?:[\w.-]|/(?=\w))*))?(?P<pooling>#mean)?",
    re.ASCII,
)

CLUSTER = re.compile(r"|local:[1-9]\d{0,2}|(?:tcp|tls)://\S+:\d+", re.ASCII)


@dataclass(frozen=True)
class Parameter:
    """One parameter of the notebooks.

    Attributes
    ----------
    type : "str", "int", "float", "bool" or "list[float]", as in the notebook.
    notebooks : the numbers of the notebooks that have it.
    allowed : the allowed values; empty if every value of the type from `minimum` to `maximum`, and greater
        than `above`, is allowed. or_zero : 0 is allowed, too.
    suffixes : suffixes of files whose path is allowed, too.
    pattern, form : of further allowed values: as a regular expression for the whole value, and in words.
    tutorial : its name in Microsoft's tutorial of 2017. synonyms : its values there, and our names for them.
    default_in : the default in single notebooks, by number, where it is another one.
    idle_with : for names of other parameters, the values with which this one does not change the classifier.
    """

    name: str
    type: str
    default: Value
    meaning: str
    notebooks: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    form: str = ""
    above: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    or_zero: bool = False
    tutorial: str = ""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    default_in: Mapping[str, Value] = field(default_factory=dict)
    idle_with: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is among the allowed ones."""
        return (
            not (self.allowed or self.pattern)
            or value in self.allowed
            or Path(value).suffix in self.suffixes
            or bool(self.pattern and self.pattern.fullmatch(value))
        )

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        if self.pattern and not self.allowed:
            return self.form
        if self.allowed:
            paths = f", or a path ending in {' or '.join(self.suffixes)}" if self.suffixes else ""
            form = f", or {self.form}" if self.form else ""
            return "one of " + ", ".join(self.allowed) + paths + form
        kind = {
            "str": "text",
            "int": "a whole number",
            "float": "a number",
            "bool": "True or False",
            "list[float]": "comma-separated numbers",
        }[self.type]
        limits = [
            f"{word} {limit:g}"
            for word, limit in (
                ("above", self.above),
                ("at least", self.minimum),
                ("at most", self.maximum),
            )
            if limit is not None
        ]
        or_zero = "0, or " if self.or_zero else ""
        return f"{or_zero}{kind} {' and '.join(limits)}".strip()


ALL = ("00", "01", "02", "03", "04", "05", "06", "07", "08")
COLLECTS = ("08",)
RUNS = ("03", "04", "05")
NOT_FINE_TUNED: Mapping[str, tuple[Value, ...]] = {"classifier": (SVM,)}
NO_EPOCHS: Mapping[str, tuple[Value, ...]] = {**NOT_FINE_TUNED, "epochs": (0,)}

PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            "dataset_name",
            "str",
            "fashion_texture",
            "name of the data set: a folder below images/, and its manifest if there is one",
            ALL,
            tutorial="datasetName",
            default_in={"08": "own_images"},
        ),
        Parameter(
            "images_dir",
            "str",
            "",
            "another folder of label folders, used in place: a path, or a URL such as s3://bucket/fruit",
            ALL[:-1],
        ),
        Parameter(
            "objects",
            "str",
            "garment",
            "what to search for, with commas: each object is combined with each attribute",
            COLLECTS,
        ),
        Parameter(
            "attributes",
            "str",
            "dotted, leopard, striped",
            "the labels, with commas, each searched for with each object; empty: the objects are the labels",
            COLLECTS,
        ),
        Parameter("images_per_query", "int", 50, "images of each query at most", COLLECTS, minimum=1),
        Parameter(
            "search_service",
            "str",
            "folder",
            "where to search: folder (on this machine), openverse, commons (Wikimedia), inaturalist, brave "
            "(requires a key)",
            COLLECTS,
            ("folder", "openverse", "commons", "inaturalist", "brave"),
        ),
        Parameter(
            "search_folder",
            "str",
            "images/fashion_texture",
            "the folder that search_service folder looks through, in the data folder or elsewhere",
            COLLECTS,
        ),
        Parameter(
            "search_url", "str", "", "another server of the same kind; empty: the service's own", COLLECTS
        ),
        Parameter(
            "commercial_use",
            "bool",
            False,
            "whether to keep only images whose licence allows commercial use",
            COLLECTS,
        ),
        Parameter(
            "labels_from",
            "str",
            "query",
            "query: each image gets the label that was searched for; person: none, you label them here",
            COLLECTS,
            ("query", "person"),
        ),
        Parameter(
            "max_images",
            "int",
            0,
            "images to fetch at most, over all labels; 0: all",
            ("00",),
            minimum=0,
            tutorial="downloadTopNImages",
        ),
        Parameter(
            "max_image_side",
            "int",
            1000,
            "larger images are downscaled to this when fetched, pixels; 0: never",
            ("00", *COLLECTS),
            minimum=0,
            tutorial="maxSize",
        ),
        Parameter(
            "private_addresses",
            "bool",
            False,
            "whether images may be fetched from private and loopback addresses",
            ("00", *COLLECTS),
        ),
        Parameter(
            "train_fraction",
            "float",
            0.75,
            "fraction of each label's images in the training set, 0 to 1",
            ("01",),
            minimum=0.01,
            maximum=0.99,
            tutorial="ratioTrainTest",
        ),
        Parameter(
            "split_by",
            "str",
            "image",
            "image; or group: images of one subfolder below the labels stay in one set",
            ("01",),
            ("image", "group"),
            tutorial="imagesSplitBy",
        ),
        Parameter(
            "near_duplicates",
            "str",
            "together",
            "together: near-duplicates stay on one side of the split; left out: only the largest of them "
            "is used; ignored: treated like other images",
            ("01",),
            ("together", "left out", "ignored"),
        ),
        Parameter(
            "classifier",
            "str",
            "svm",
            "svm: linear SVM on the pretrained DNN's features; dnn: the refined DNN; "
            "svm_dnn_refined: SVM on its features",
            ("02", *RUNS),
            (SVM, DNN, SVM_ON_REFINED),
            tutorial="classifier",
            synonyms={"svmDnnRefined": "svm_dnn_refined"},
        ),
        Parameter(
            "backbone",
            "str",
            "efficientnet_lite1",
            "pretrained DNN, hf/OWNER/NAME of the Hugging Face Hub, or the path of one: .onnx, .pth, .model",
            ("02",),
            (
                "efficientnet_lite0",
                "efficientnet_lite1",
                "resnet18",
                "resnet34",
                "resnet50",
                "mobilenet_v3_large",
                "efficientnet_v2_s",
                "convnext_tiny",
            ),
            (".onnx", ".pth", ".model"),
            HUB_MODEL,
            "a model of the Hugging Face Hub as hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with "
            "#mean",
            tutorial="rf_pretrainedModelFilename",
        ),
        Parameter(
            "input_size",
            "int",
            0,
            "width and height of the DNN's input, pixels; 0: the size that the backbone was trained for",
            ("02",),
            minimum=32,
            maximum=2048,
            or_zero=True,
            tutorial="rf_inputResoluton",
        ),
        Parameter(
            "epochs",
            "int",
            5,
            "passes over the training images while fine-tuning; 0: only the new last layer is trained",
            ("02",),
            minimum=0,
            maximum=1000,
            tutorial="rf_maxEpochs",
            idle_with=NOT_FINE_TUNED,
        ),
        Parameter(
            "batch_size",
            "int",
            32,
            "images per gradient step",
            ("02",),
            minimum=1,
            maximum=1024,
            tutorial="rf_mbSize",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "dropout",
            "float",
            0.2,
            "dropout rate before the new last layer, 0 to 1",
            ("02",),
            minimum=0,
            maximum=0.99,
            tutorial="rf_dropoutRate",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "learning_rate",
            "list[float]",
            [0.0004],
            "one value: linear warm-up, then a cosine schedule to 0; "
            "several: one per epoch, the last repeats",
            ("02",),
            above=0,
            maximum=1,
            tutorial="rf_lrPerMb",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "optimizer",
            "str",
            "adamw",
            "adamw; or sgd, as in the tutorial",
            ("02",),
            ("adamw", "sgd"),
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "momentum",
            "float",
            0.9,
            "momentum of the optimizer (AdamW: beta 1), 0 to 1",
            ("02",),
            minimum=0,
            maximum=0.999,
            tutorial="rf_momentumPerMb",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "weight_decay",
            "float",
            0.05,
            "weight decay of the optimizer; more of it regularizes more",
            ("02",),
            minimum=0,
            tutorial="rf_l2RegWeight",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "trainable_stages",
            "str",
            "3",
            "stages at the end of the DNN that are fine-tuned (0: the new last layer alone), or all",
            ("02",),
            ("0", "1", "2", "3", "4", "5", "6", "7", "all"),
            tutorial="rf_boFreezeWeights",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "balance",
            "bool",
            False,
            "oversample rare labels until all labels are seen equally often",
            ("02",),
            tutorial="rf_boBalanceTrainingSet",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "max_train_images",
            "int",
            0,
            "training images per epoch at most; 0: all",
            ("02",),
            minimum=0,
            tutorial="rf_maxTrainImages",
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "augment",
            "bool",
            True,
            "data augmentation: random crop, brightness, contrast, saturation and horizontal flip",
            ("02",),
            idle_with=NO_EPOCHS,
        ),
        Parameter(
            "engine",
            "str",
            "openvino",
            "inference engine; cntk (after make cntk) also fine-tunes",
            ("02", *RUNS),
            ("openvino", "onnxruntime", "cntk"),
        ),
        Parameter(
            "precision",
            "str",
            "f32",
            "numeric precision of inference. f32; bf16: faster on processors that support it; "
            "int8: faster on most; auto: the fastest with a mean cosine of 0.98 to f32 on training images",
            RUNS,
            ("f32", "bf16", "int8", "auto"),
        ),
        Parameter(
            "inference_batch_size",
            "int",
            2,
            "images per batch of inference",
            ("03", "05"),
            minimum=1,
            maximum=1024,
            tutorial="run_mbSize",
        ),
        Parameter(
            "l2_normalize",
            "bool",
            True,
            "L2-normalize each feature vector",
            ("04",),
            tutorial="svm_boL2Normalize",
            idle_with={"classifier": (DNN,)},
        ),
        Parameter(
            "svm_c",
            "list[float]",
            [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0],
            "candidates for C; a smaller C regularizes more",
            ("04",),
            above=0,
            tutorial="svm_CVals",
            idle_with={"classifier": (DNN,)},
        ),
        Parameter(
            "unfamiliar_rate",
            "float",
            0.05,
            "share of images like the training images that may be called unfamiliar, 0 to 0.5; 0: none",
            ("04",),
            minimum=0,
            maximum=0.5,
        ),
        Parameter(
            "evaluate_on",
            "str",
            "test",
            "test; or train, which overestimates the accuracy",
            ("05",),
            ("test", "train"),
            tutorial="boEvalOnTrainingSet",
        ),
        Parameter(
            "reject_below",
            "float",
            0.0,
            "the service gives no label if its probability is below this, 0 to 1; 0: it always gives one",
            ("06",),
            minimum=0,
            maximum=1,
        ),
        Parameter(
            "reject_unfamiliar",
            "bool",
            False,
            "the service gives no label for an image that is unlike the training images",
            ("06",),
        ),
        Parameter(
            "cluster",
            "str",
            "",
            "processes that fetch, scan, compute features and run trials: local:N on this machine, or the "
            "address of a scheduler of Dask (docs/cluster.md); empty: this one alone",
            ("00", "01", "03", "07", *COLLECTS),
            pattern=CLUSTER,
            form="empty, local:N for N processes, or tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler",
        ),
        Parameter(
            "grid",
            "str",
            "input_size: 120, 240, 360",
            "parameter grid of a sweep: NAME: VALUE, VALUE; NAME: VALUE, VALUE; empty: no sweep",
            ("07",),
        ),
        Parameter(
            "seed",
            "int",
            0,
            "random seed of the split, fine-tuning, cross-validation and simulations",
            ("01", "02", "04", "05", *COLLECTS),
            minimum=0,
        ),
    )
}
