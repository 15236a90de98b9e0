"""Video in, tracks out: reading, clip by clip prediction, writing."""

from amodal2.video.live import LivePredictor
from amodal2.video.predictor import Predictor, predict_video
from amodal2.video.streaming import PredictorSettings, StreamingModel

__all__ = ["LivePredictor", "Predictor", "PredictorSettings", "StreamingModel", "predict_video"]
