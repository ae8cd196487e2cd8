#!/bin/sh
# As the entry point of TensorFlow Serving's image: one model by its name, and any flags behind it.
# TensorFlow wants a place for temporary files: under --read-only, shared memory is the one there is.
if [ ! -w /tmp ]; then
  export TMPDIR=/dev/shm
fi
# exec, so that the signals of `docker stop` reach the server.
exec model_server --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
