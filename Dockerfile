# docker build -t lens-lab . && docker run --rm -p 8501:8501 lens-lab
# On Linux, pip's torch carries CUDA. For an image a tenth of that size, name the index of torch's
# CPU builds (PyTorch's installation page gives it): --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV HF_HOME=/srv/hf \
    HF_HUB_DISABLE_TELEMETRY=1 \
    OMP_NUM_THREADS=1 \
    PYTHONPATH=/srv/lab \
    PYTHONUNBUFFERED=1

WORKDIR /srv/lab
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
RUN useradd --system --uid 10001 --create-home lab && mkdir -p /srv/hf && chown lab /srv/hf

COPY .streamlit .streamlit
COPY lens_core lens_core
COPY content content
COPY app app
COPY pages pages

USER lab
EXPOSE 8501
HEALTHCHECK --start-period=120s --interval=15s CMD python -c \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=3)"
CMD ["python", "-m", "streamlit", "run", "app/server.py", "--server.headless=true", \
     "--server.address=0.0.0.0", "--server.fileWatcherType=none"]
