# The service with its model: one image is one version of the classifier.
#
#   docker build -f deploy/model.Dockerfile -t registry.example/fashion_texture:1 ~/imgclf_data/proc/fashion_texture
ARG SERVICE=imgclf

FROM ${SERVICE}
COPY classifier.onnx /models/classifier.onnx
