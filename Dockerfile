# docker build -t unet-2015 .
# docker run --rm -it unet-2015 make train                 (or: make test)
FROM python:3.11-slim-bookworm

# git: runs record the commit they were made with; make: the two commands
# (Debian keeps no older versions, so that none is pinned)
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /unet-2015
COPY pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY unet ./unet
RUN make setup PYTHON=python3 && rm -rf /root/.cache/pip
COPY . .

ENV PATH="/unet-2015/.venv/bin:${PATH}"
CMD ["make", "train"]
